// A vSphere API to test against: govmomi's simulator, with a memoryAllocation that merges, is checked before it is applied, and
// moves a toy balloon. Prints its URL, serves until its standard input ends.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Whether reconfiguring is a privilege that the user has.
var mayReconfigure = true

type machine struct {
	simulator.VirtualMachine
}

func refused(vm *machine, fault types.BaseMethodFault) soap.HasFault {
	task := simulator.CreateTask(vm, "reconfigVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return nil, fault })
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task.Run()}}
}

// ReconfigVMTask of the simulator wipes the fields that are not sent, and applies what it refuses.
func (vm *machine) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	wish := req.Spec.MemoryAllocation
	if wish != nil {
		if !mayReconfigure {
			return refused(vm, &types.NoPermission{Object: vm.Self, PrivilegeId: "VirtualMachine.Config.Resource"})
		}
		is, size := vm.Config.MemoryAllocation, int64(vm.Config.Hardware.MemoryMB)
		if wish.OverheadLimit != nil {
			return refused(vm, &types.InvalidArgument{InvalidProperty: "configSpec.memoryAllocation.overheadLimit"})
		}
		if wish.Reservation == nil {
			wish.Reservation = is.Reservation
		}
		if wish.Limit == nil {
			wish.Limit = is.Limit
		}
		if wish.Shares == nil {
			wish.Shares = is.Shares
		}
		if *wish.Reservation < 0 || *wish.Reservation > size || (*wish.Limit >= 0 && *wish.Limit < *wish.Reservation) {
			return refused(vm, &types.InvalidArgument{InvalidProperty: "configSpec.memoryAllocation.reservation"})
		}
		if wish.Shares.Level == types.SharesLevelCustom && (wish.Shares.Shares < 1 || wish.Shares.Shares > 1000000) {
			return refused(vm, &types.InvalidArgument{InvalidProperty: "configSpec.memoryAllocation.shares"})
		}
		vm.balloon(*wish.Limit, size)
	}
	return vm.VirtualMachine.ReconfigVMTask(ctx, req)
}

// ESXi balloons a guest that meets its own limit, up to 65 % of its memory (Mem.CtlMaxPercent), and swaps the rest.
func (vm *machine) balloon(limit int64, size int64) {
	stats, beyond := &vm.Summary.QuickStats, int64(0)
	if limit >= 0 && limit < size {
		beyond = size - limit
	}
	most := size * 65 / 100
	if beyond > most {
		stats.SwappedMemory = int32(beyond - most)
		beyond = most
	} else {
		stats.SwappedMemory = 0
	}
	stats.BalloonedMemory = int32(beyond)
}

// Its own, and good for 127.0.0.1: the one of Go's test server has a key that is too short to be trusted.
func certificate(until time.Time) tls.Certificate {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	form := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &form, &form, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func number(value int64) *int64 { return &value }

func main() {
	count := flag.Int("vms", 3, "virtual machines")
	memory := flag.Int("memory", 4096, "of each, MB")
	host := flag.Int64("host", 16384, "memory of the host, MB")
	user := flag.String("user", "ballonet", "")
	password := flag.String("password", "secret", "")
	readOnly := flag.Bool("read-only", false, "without the privilege to reconfigure")
	version := flag.String("version", "", "of the API, if not the simulator's own")
	cluster := flag.Bool("cluster", false, "its host is in a cluster with DRS")
	expired := flag.Bool("expired", false, "its certificate")
	flag.Parse()
	log.SetOutput(io.Discard)
	mayReconfigure = !*readOnly

	model := simulator.VPX()
	model.Cluster, model.Host, model.Machine, model.Pool = 0, 1, *count, 0
	if *cluster {
		model.Cluster, model.ClusterHost, model.Host = 1, 1, 0
	}
	if *version != "" {
		model.ServiceContent.About.ApiVersion = *version
	}
	if err := model.Create(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, entity := range simulator.Map.All("HostSystem") {
		one := entity.(*simulator.HostSystem)
		one.Hardware.MemorySize = *host << 20
		one.Summary.Hardware.MemorySize = *host << 20
	}
	for _, entity := range simulator.Map.All("VirtualMachine") {
		vm := entity.(*simulator.VirtualMachine)
		vm.Config.Hardware.MemoryMB = int32(*memory)
		vm.Summary.Config.MemorySizeMB = int32(*memory)
		shares := types.SharesInfo{Level: types.SharesLevelNormal, Shares: int32(10 * *memory)}
		vm.Config.MemoryAllocation = &types.ResourceAllocationInfo{Reservation: number(0), Limit: number(-1), Shares: &shares}
		vm.Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
		vm.Summary.QuickStats.GuestMemoryUsage = int32(*memory / 4)
		vm.Summary.QuickStats.HostMemoryUsage = int32(*memory / 2)
		simulator.Map.Put(&machine{VirtualMachine: *vm})
	}
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(*user, *password)}
	until := time.Now().Add(24 * time.Hour)
	if *expired {
		until = time.Now().Add(-24 * time.Hour)
	}
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(until)}}
	server := model.Service.NewServer()
	fmt.Println(server.URL.Host)
	io.Copy(io.Discard, os.Stdin)
	server.Close()
}
