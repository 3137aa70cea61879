//! Clouds, as far as their metadata services go: one server that answers as
//! each one's documentation says, and keeps what it was asked.
//!
//! Several clouds answer at the same address and some at the same path: whose
//! `/latest/` is meant is told by what was asked before.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a client asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// By their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// The server of all clouds.
#[derive(Debug)]
pub(crate) struct Clouds {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Clouds {
    /// Starts to serve; `key` is the SSH key of AWS, the others have their own.
    pub(crate) fn start(key: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, key) = (Arc::clone(&asked), key.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that only looks whether somebody listens says nothing.
                if let Some(request) = read(&stream) {
                    let mut log = log.lock().expect("a log");
                    log.push(request);
                    let (status, body) = answer(&log, &key);
                    drop(log);
                    write(&stream, status, &body);
                }
            }
        });
        Self { port, asked }
    }

    /// Returns the requests of a method for a path.
    pub(crate) fn asked(&self, method: &str, path: &str) -> Vec<Request> {
        let asked = self.asked.lock().expect("a log");
        let meant = |request: &&Request| request.method == method && request.path == path;
        asked.iter().filter(meant).cloned().collect()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Request { method: words.next()?, path: words.next()?, ..Request::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let len = request.headers.get("content-length").map_or(Ok(0), |len| len.parse()).ok()?;
    reader.take(len).read_to_string(&mut request.body).ok()?;
    Some(request)
}

fn write(mut stream: &TcpStream, status: u16, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    // A client that has gone is told nothing.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

/// The cloud whose `/latest/` is meant: that of the last path that is one's own.
fn latest(asked: &[Request]) -> &'static str {
    let owner = |request: &Request| match request.path.as_str() {
        "/latest/api/token" => Some("aws"),
        "/openstack/latest/meta_data.json" => Some("openstack"),
        "/v1.json" => Some("vultr"),
        _ => None,
    };
    asked.iter().rev().find_map(owner).unwrap_or("nobody")
}

/// Answers the last of the requests.
fn answer(asked: &[Request], key: &str) -> (u16, String) {
    let request = asked.last().expect("a request");
    let has = |name: &str, value: &str| request.headers.get(name).is_some_and(|it| it == value);
    let path = request.path.as_str();
    let refused = match path {
        "/latest/api/token" => {
            request.method != "PUT"
                || !request.headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds")
        }
        _ if path.starts_with("/latest/") && latest(asked) == "aws" => {
            !has("x-aws-ec2-metadata-token", TOKEN)
        }
        _ if path.starts_with("/metadata/instance") => !has("metadata", "true"),
        _ if path.starts_with("/machine/") => !has("x-ms-version", "2012-11-30"),
        _ if path.starts_with("/computeMetadata/") => !has("metadata-flavor", "Google"),
        _ if path.starts_with("/opc/") => !has("authorization", "Bearer Oracle"),
        _ => false,
    };
    if refused {
        return (401, "refused".to_owned());
    }
    match body(latest(asked), path, key) {
        Some(body) => (200, body),
        None => (404, "not found".to_owned()),
    }
}

/// AWS's token of a session.
const TOKEN: &str = "AQAEANd5Xw0tokenOfForms56CharactersLong0000000000000000A==";

fn body(latest: &str, path: &str, key: &str) -> Option<String> {
    let text = match (latest, path) {
        ("aws", "/latest/meta-data/hostname") => "ip-10-0-0-7.ec2.internal",
        ("aws", "/latest/meta-data/instance-id") => "i-0123456789abcdef0",
        ("aws", "/latest/meta-data/placement/availability-zone") => "eu-central-1a",
        ("aws", "/latest/meta-data/public-keys/") => "0=first\n1=second",
        ("aws", "/latest/meta-data/public-keys/0/openssh-key") => key,
        ("aws", "/latest/meta-data/public-keys/1/openssh-key") => "ssh-ed25519 AWS second",
        ("aws", "/latest/user-data") => {
            r#"{"app": {"entries": {"mode": {"content": "green", "perm": "0600"}}}}"#
        }
        (_, "/latest/api/token") => TOKEN,
        (_, "/metadata/instance?api-version=2021-02-01") => AZURE,
        (_, "/machine/?comp=goalstate") => GOAL_STATE,
        (_, "/machine/?comp=health") => "",
        (_, "/metadata/v1.json") => DIGITALOCEAN,
        (_, "/computeMetadata/v1/?recursive=true") => GOOGLE,
        (_, "/computeMetadata/v1/instance/id") => "4520031799277581759",
        (_, "/hetzner/v1/metadata/hostname") => "at-hetzner",
        (_, "/hetzner/v1/metadata/instance-id") => "42",
        (_, "/hetzner/v1/metadata/public-keys") => {
            r#"["ssh-ed25519 HETZNER one", "ssh-rsa HETZNER two"]"#
        }
        (_, "/hetzner/v1/userdata") => "#cloud-config of Hetzner",
        (_, "/openstack/latest/meta_data.json") => OPENSTACK,
        (_, "/openstack/latest/user_data") => "data of OpenStack",
        ("openstack", "/latest/meta-data/local-ipv4") => "10.0.0.9",
        (_, "/opc/v2/instance/") => ORACLE,
        (_, "/conf?format=json") => SCALEWAY,
        (_, "/user_data/cloud-init") => "data of Scaleway\nin two lines\n",
        (_, "/state") => "",
        (_, "/v1.json") => VULTR,
        ("vultr", "/latest/user-data") => "data of Vultr",
        _ => return None,
    };
    Some(text.to_owned())
}

const AZURE: &str = r#"{
  "compute": {
    "azEnvironment": "AzurePublicCloud", "location": "westeurope", "name": "vm", "zone": "2",
    "osProfile": {"adminUsername": "admin", "computerName": "at-azure"},
    "publicKeys": [{"keyData": "ssh-rsa AZURE one\r\n", "path": "/home/admin/.ssh/authorized_keys"}],
    "userData": "", "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6", "vmSize": "Standard_B1s"
  },
  "network": {"interface": [{"ipv4": {"ipAddress": [
    {"privateIpAddress": "10.144.133.132", "publicIpAddress": ""}
  ]}}]}
}"#;

const GOAL_STATE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r
<GoalState>\r
  <Version>2012-11-30</Version>\r
  <Incarnation>3</Incarnation>\r
  <Container>\r
    <ContainerId>7b324f53-983a-43bc</ContainerId>\r
    <RoleInstanceList><RoleInstance><InstanceId>fbb84507._vm</InstanceId></RoleInstance></RoleInstanceList>\r
  </Container>\r
</GoalState>";

const DIGITALOCEAN: &str = r#"{
  "droplet_id": 2756294, "hostname": "at-digitalocean", "region": "nyc3",
  "public_keys": ["ssh-rsa DIGITALOCEAN one"], "user_data": "data of DigitalOcean",
  "interfaces": {"public": [{"ipv4": {"ip_address": "104.131.20.105"}}]}
}"#;

const GOOGLE: &str = r#"{
  "instance": {
    "hostname": "at-google.c.project.internal", "id": 4520031799277581759,
    "machineType": "projects/123/machineTypes/e2-small", "zone": "projects/123/zones/europe-west1-b",
    "attributes": {
      "ssh-keys": "me:ssh-rsa GOOGLE mine\nold:ssh-rsa GOOGLE google-ssh {\"userName\":\"old\",\"expireOn\":\"2018-12-04T20:12:00+0000\"}\nnew:ssh-rsa GOOGLE google-ssh {\"userName\":\"new\",\"expireOn\":\"2099-12-04T20:12:00+0000\"}",
      "user-data": "data of Google"
    },
    "networkInterfaces": [{"ip": "10.132.0.2", "accessConfigs": [{"externalIp": "35.0.0.1"}]}]
  },
  "project": {"attributes": {"ssh-keys": "all:ssh-rsa GOOGLE everybody's"}}
}"#;

/// Also what is on a config drive.
pub(crate) const OPENSTACK: &str = r#"{
  "availability_zone": "nova", "hostname": "at-openstack", "name": "at-openstack",
  "public_keys": {"mykey": "ssh-rsa OPENSTACK one\n"}, "uuid": "d8e02d56-2648-49a3-bf97-6be8f1204f38"
}"#;

const ORACLE: &str = r#"{
  "availabilityDomain": "EMIr:PHX-AD-1", "canonicalRegionName": "us-phoenix-1",
  "hostname": "at-oracle", "id": "ocid1.instance.oc1.phx.x", "shape": "VM.Standard.E3.Flex",
  "metadata": {"ssh_authorized_keys": "ssh-rsa ORACLE one\nssh-rsa ORACLE two\n", "user_data": "ZGF0YSBvZiBPcmFjbGU="}
}"#;

const SCALEWAY: &str = r#"{
  "id": "11111111-2222-3333-4444-555555555555", "hostname": "at-scaleway", "commercial_type": "DEV1-S",
  "location": {"zone_id": "par1"}, "private_ip": "10.8.0.1", "public_ip": {"address": "51.15.0.1"},
  "ssh_public_keys": [{"key": "ssh-rsa SCALEWAY one", "fingerprint": "2048 06:ae"}]
}"#;

const VULTR: &str = r#"{
  "hostname": "at-vultr", "instanceid": "a747bfz6385e", "region": {"regioncode": "EWR"},
  "interfaces": [{"ipv4": {"address": "192.0.2.2", "netmask": "255.255.255.0"}}],
  "public-keys": "ssh-rsa VULTR one\nssh-rsa VULTR two"
}"#;
