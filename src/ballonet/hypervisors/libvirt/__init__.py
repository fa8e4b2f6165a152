"""KVM guests that libvirt manages."""
