"""WinRM with PowerShell remoting on loopback: psrpcore's server, pyspnego's acceptor, Python's HTTP. Basic over TLS, NTLM and
Negotiate with encrypted messages; faults on demand. Envelopes have the shape of what Windows answered in pypsrp's recordings.
"""

import base64
import datetime as dt
import http.server
import ipaddress
import ssl
import sys
import threading
import time
import traceback
import uuid
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from psrpcore import PSRPPayload, ServerPipeline, ServerRunspacePool, StreamType
from psrpcore.types import ErrorCategoryInfo, NETException, PSCustomObject, PSGuid, PSInt64
from pypsrp.encryption import WinRMEncryption

from hyperv.toy import CmdletError, ToyHost

NS = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "p": "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
}
SPACES = " ".join(f'xmlns:{key}="{value}"' for key, value in NS.items())
DONE = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Done"
NOTHING_YET, DENIED, QUOTA = 2150858793, 5, 2150859173
"""WSMan faults: no data within the operation's time; not allowed; too many shells of a user."""
PART_BYTES = 64 * 1024


class WinrmServer(http.server.ThreadingHTTPServer):
    """Serves one toy host until it is closed."""

    daemon_threads = True

    def __init__(self, host: ToyHost, folder: Path, *, tls: bool, password: str = "secret", until_days: int = 1) -> None:  # noqa: S107 a test's
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host, self.password, self.tls = host, password, tls
        self.certificate = folder / f"{self.server_port}.pem"
        if tls:
            _write_certificate(self.certificate, until_days)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.pools: dict[str, ServerRunspacePool] = {}
        self.pipelines: dict[str, Any] = {}
        self.outputs: dict[str, list[bytes]] = {}
        self.faults: list[str] = []
        """What goes wrong with the next requests that are named so, one each: `401`, `drop`, `slow`, or a fault's code; before a
        colon the action that it waits for."""
        self.seen: Counter[str] = Counter()
        self.envelopes: list[str] = []
        self.texts: list[str] = []
        self.errors: list[str] = []
        self.turned_away = 0
        """Logins."""
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in the middle is no event; what goes wrong here fails the test."""
        if not isinstance(sys.exc_info()[1], OSError):
            self.errors.append(traceback.format_exc())

    def close(self) -> None:
        """Ends it."""
        self.shutdown()
        self.server_close()


def _write_certificate(path: Path, until_days: int) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "toy")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    form = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    form = form.not_valid_before(now - dt.timedelta(days=30)).not_valid_after(now + dt.timedelta(days=until_days))
    form = form.add_extension(names, critical=False).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(form.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + secret)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection: NTLM lets in connections, not requests."""

    protocol_version = "HTTP/1.1"
    server: WinrmServer

    def setup(self) -> None:
        super().setup()
        self.context: Any = None
        self.is_in = False

    def log_message(self, *_words: Any) -> None:
        """Nothing to standard error."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.is_in and not self._let_in(body):
            return
        if not body:
            self._reply(200, b"", {})
            return
        envelope = self._unwrap(body)
        action = str(envelope.findtext("s:Header/a:Action", namespaces=NS)).rpartition("/")[2]
        self.server.seen[action] += 1
        fault = next((one for one in self.server.faults if ":" not in one or one.split(":")[0] == action), None)
        if fault is not None:
            self.server.faults.remove(fault)
            if self._go_wrong(fault.rpartition(":")[2], envelope):
                return
        self._answer(action, envelope)

    # Who is let in

    def _let_in(self, body: bytes) -> bool:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            self.is_in = base64.b64decode(token).decode().rpartition(":")[2] == self.server.password
        elif kind in {"Negotiate", "NTLM"}:
            if self.context is None:
                protocol = "ntlm" if kind == "NTLM" else "negotiate"
                self.context = spnego.server(protocol=protocol, options=spnego.NegotiateOptions.wrapping_winrm)
            try:
                answer = self.context.step(base64.b64decode(token))
            except spnego.exceptions.SpnegoError:
                self.context = None
                self._refuse()
                return False
            self.is_in = self.context.complete
            if not self.is_in or (answer and not body):
                self._reply(
                    200 if self.is_in else 401, b"", {"WWW-Authenticate": f"{kind} {base64.b64encode(answer or b'').decode()}"}
                )
                return False
        if not self.is_in:
            self._refuse()
        return self.is_in

    def _refuse(self) -> None:
        self.server.turned_away += 1
        self._reply(401, b"", {"WWW-Authenticate": 'Negotiate, Basic realm="WSMAN"'})

    def _unwrap(self, body: bytes) -> ET.Element:
        if "encrypted" in self.headers.get("Content-Type", ""):
            self.server.texts.append(body.decode("latin-1"))
            body = WinRMEncryption(self.context, WinRMEncryption.SPNEGO).unwrap_message(body, "Encrypted Boundary")
        elif not self.server.tls:
            raise AssertionError("a message in the clear")
        return ET.fromstring(body)  # noqa: S314 our own client's

    # What goes wrong

    def _go_wrong(self, how: str, envelope: ET.Element) -> bool:
        """Whether that is the answer."""
        if how == "drop":
            self.close_connection = True
            self.connection.close()
        elif how == "slow":
            time.sleep(1.5)
            return False
        elif how == "401":
            self.is_in, self.context = False, None
            self._refuse()
        elif how == "garbage":
            self._reply(200, b"<html>hello", {"Content-Type": "text/html"})
        else:
            self._send(500, envelope, "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault", _fault(int(how)))
        return True

    # What is answered

    def _answer(self, action: str, envelope: ET.Element) -> None:
        shell = envelope.findtext("s:Header/w:SelectorSet/w:Selector", default="", namespaces=NS)
        body = envelope.find("s:Body", NS)
        assert body is not None
        uri, text = {
            "Create": (NS["x"], self._create),
            "Delete": (NS["x"], self._delete),
        }.get(action, (NS["rsp"], getattr(self, f"_{action.lower()}", None)))
        assert text is not None, f"no {action} here"
        self._send(200, envelope, f"{uri}/{action}Response", text(shell, body))

    def _create(self, _shell: str, body: ET.Element) -> str:
        one = body.find("rsp:Shell", NS)
        assert one is not None
        name, pool = one.attrib["ShellId"], ServerRunspacePool()
        content = one.find("{http://schemas.microsoft.com/powershell}creationXml")
        assert content is not None
        self._feed(pool, content.text)
        self.server.pools[name] = pool
        resource = "http://schemas.microsoft.com/powershell/Microsoft.PowerShell"
        selector = f'<w:SelectorSet><w:Selector Name="ShellId">{name}</w:Selector></w:SelectorSet>'
        made = f"<a:Address>https://127.0.0.1/wsman</a:Address><a:ReferenceParameters><w:ResourceURI>{resource}</w:ResourceURI>"
        said = {
            "ShellId": name, "ResourceUri": resource, "Owner": "toy", "ClientIP": "127.0.0.1", "ProcessId": "1",
            "IdleTimeOut": "PT7200.000S", "InputStreams": "stdin pr", "OutputStreams": "stdout",
            "MaxIdleTimeOut": "PT2147483.647S", "Locale": "en-US", "DataLocale": "en-US", "CompressionMode": "NoCompression",
            "ProfileLoaded": "Yes", "Encoding": "UTF8", "BufferMode": "Block", "State": "Connected",
            "ShellRunTime": "P0DT0H0M0S", "ShellInactivity": "P0DT0H0M0S",
        }  # fmt: skip
        shell = "".join(f"<rsp:{key}>{value}</rsp:{key}>" for key, value in said.items())
        return f"<x:ResourceCreated>{made}{selector}</a:ReferenceParameters></x:ResourceCreated><rsp:Shell>{shell}</rsp:Shell>"

    def _delete(self, shell: str, _body: ET.Element) -> str:
        self.server.pools.pop(shell, None)
        return ""

    def _command(self, shell: str, body: ET.Element) -> str:
        line = body.find("rsp:CommandLine", NS)
        assert line is not None
        command, pool = line.attrib["CommandId"], self.server.pools[shell]
        ServerPipeline(pool, uuid.UUID(command))
        self._feed(pool, line.findtext("rsp:Arguments", namespaces=NS))
        self.server.outputs[command] = []
        self._run(pool, command)
        return f"<rsp:CommandResponse><rsp:CommandId>{command}</rsp:CommandId></rsp:CommandResponse>"

    def _receive(self, shell: str, body: ET.Element) -> str:
        wanted = body.find("rsp:Receive/rsp:DesiredStream", NS)
        assert wanted is not None
        pool, command = self.server.pools[shell], wanted.attrib.get("CommandId")
        whose = f' CommandId="{command}"' if command else ""
        parts = self._take(pool) if command is None else [self.server.outputs[command].pop(0)]
        streams = "".join(f'<rsp:Stream Name="stdout"{whose}>{base64.b64encode(part).decode()}</rsp:Stream>' for part in parts)
        is_done = command is not None and not self.server.outputs[command]
        done = f'<rsp:CommandState{whose} State="{DONE}"><rsp:ExitCode>0</rsp:ExitCode></rsp:CommandState>' if is_done else ""
        return f"<rsp:ReceiveResponse>{streams}{done}</rsp:ReceiveResponse>"

    def _signal(self, _shell: str, body: ET.Element) -> str:
        one = body.find("rsp:Signal", NS)
        assert one is not None
        self.server.outputs.pop(one.attrib["CommandId"], None)
        return "<rsp:SignalResponse/>"

    # PowerShell

    @staticmethod
    def _feed(pool: ServerRunspacePool, text: str | None) -> None:
        pool.receive_data(PSRPPayload(base64.b64decode(text or ""), StreamType.default, None))
        while pool.next_event() is not None:
            pass

    def _run(self, pool: ServerRunspacePool, command: str) -> None:
        pipeline = pool.pipeline_table[uuid.UUID(command)]
        pipeline.start()
        statement: list[tuple[str, dict[str, Any]]] = []
        commands: Any = getattr(pipeline.metadata, "commands", [])
        for one in commands:
            assert not one.is_script, "script text was sent"
            statement.append((one.command_text, dict(one.parameters)))
            if one.end_of_statement or one is commands[-1]:
                try:
                    for said in self.server.host.run(statement):
                        pipeline.write_output(PSCustomObject(**{key: _typed(value) for key, value in said.items()}))
                except CmdletError as error:
                    pipeline.write_error(
                        NETException(Message=str(error)),
                        category_info=ErrorCategoryInfo(Reason=error.target),
                        target_object=error.target,
                        fully_qualified_error_id=error.code,
                    )
                statement = []
        pipeline.complete()
        pipeline.close()
        self.server.outputs[command] = self._take(pool)

    @staticmethod
    def _take(pool: ServerRunspacePool) -> list[bytes]:
        parts = []
        while (payload := pool.data_to_send(PART_BYTES)) is not None:
            parts.append(bytes(payload.data))
        return parts

    # HTTP

    def _send(self, status: int, envelope: ET.Element, action: str, body: str) -> None:
        to = envelope.findtext("s:Header/a:MessageID", namespaces=NS)
        head = (
            f"<a:Action>{action}</a:Action><a:MessageID>uuid:{uuid.uuid4()}</a:MessageID>"
            f"<a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To><a:RelatesTo>{to}</a:RelatesTo>"
        )
        text = f'<s:Envelope xml:lang="en-US" {SPACES}><s:Header>{head}</s:Header><s:Body>{body}</s:Body></s:Envelope>'
        self.server.envelopes.append(text)
        if self.server.tls:
            self._reply(status, text.encode(), {"Content-Type": "application/soap+xml;charset=UTF-8"})
            return
        kind, wrapped = WinRMEncryption(self.context, WinRMEncryption.SPNEGO).wrap_message(text.encode())
        form = f'{kind};protocol="{WinRMEncryption.SPNEGO}";boundary="Encrypted Boundary"'
        self._reply(status, wrapped, {"Content-Type": form})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


def _typed(value: Any) -> Any:
    """Sizes are Int64 there, as Get-VM has them."""
    if isinstance(value, uuid.UUID):
        return PSGuid(str(value))
    return PSInt64(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _fault(code: int) -> str:
    why = {
        NOTHING_YET: "The WS-Management service cannot complete the operation within the time specified.",
        DENIED: "Access is denied.",
    }
    text = why.get(code, "The maximum number of concurrent shells for this user has been exceeded.")
    kind = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
    detail = f'<f:WSManFault xmlns:f="{kind}" Code="{code}" Machine="127.0.0.1"><f:Message>{text}</f:Message></f:WSManFault>'
    said = f'<s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason><s:Detail>{detail}</s:Detail>'
    kind = "<s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:InternalError</s:Value></s:Subcode></s:Code>"
    return f"<s:Fault>{kind}{said}</s:Fault>"
