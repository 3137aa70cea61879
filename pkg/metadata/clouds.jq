# What a cloud's document says of a machine, as files.jq has it: one line for each file.
# `.keys` are the SSH keys and `.userdata` is the user's, in base64; all else are files by name.

def texts: if type == "array" then .[] else . end | strings | split("\n")[] | rtrimstr("\r");

# Google's keys have a user before them, and may end, which is told behind them.
def lasts:
  if contains("\"expireOn\"") then
    [capture("\"expireOn\" *: *\"(?<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8})\\+0000") | .time + "Z" | fromdateiso8601 > now]
    == [true]
  else true end;
def google_keys: (."ssh-keys", .sshKeys) | texts | select(contains(":")) | sub("^[^:]*:"; "") | select(lasts);

def leaf: if . == null then . else sub(".*/"; "") end;

def azure:
  (.network.interface[0].ipv4.ipAddress[0] // {}) as $ip | .compute
  | {
      hostname: (.osProfile.computerName // .name), instance_id: .vmId, instance_type: .vmSize,
      availability_zone: .zone, region: .location,
      local_ipv4: $ip.privateIpAddress, public_ipv4: $ip.publicIpAddress,
      keys: [.publicKeys[]? | .keyData | texts], userdata: .userData
    };

def digitalocean: {
  hostname, id: .droplet_id, instance_id: .droplet_id, region,
  public_ipv4: .interfaces.public[0]?.ipv4.ip_address, private_ipv4: .interfaces.private[0]?.ipv4.ip_address,
  keys: [.public_keys | texts], userdata: ((.user_data | strings | @base64) // null)
};

def gcp:
  .project.attributes as $project | .instance | .attributes as $own
  | {
      hostname, instance_type: (.machineType | leaf), availability_zone: (.zone | leaf),
      local_ipv4: .networkInterfaces[0]?.ip, public_ipv4: .networkInterfaces[0]?.accessConfigs[0]?.externalIp,
      keys: [
        ($own | google_keys),
        (if ($own."block-project-ssh-keys" | tostring | ascii_downcase) == "true" then empty else $project | google_keys end)
      ],
      userdata: ((
        ($own."user-data" // $own.userdata | strings)
        | if $own."user-data-encoding" == "base64" then . else @base64 end
      ) // null)
    };

def openstack: {
  hostname, instance_id: .uuid, availability_zone, keys: [.public_keys // {} | .[] | texts]
};

def oracle: {
  hostname, instance_id: .id, instance_type: .shape, availability_zone: .availabilityDomain, region: .canonicalRegionName,
  keys: [.metadata.ssh_authorized_keys | texts], userdata: .metadata.user_data
};

def scaleway: {
  hostname, instance_id: .id, instance_type: .commercial_type, instance_location: .location.zone_id,
  public_ip: .public_ip.address?, private_ip, keys: [.ssh_public_keys[]?.key | texts]
};

def vultr: {
  hostname, instance_id: .instanceid, region_code: .region.regioncode,
  public_ipv4: .interfaces[0]?.ipv4.address, private_ipv4: .interfaces[1]?.ipv4.address,
  private_netmask: .interfaces[1]?.ipv4.netmask, keys: [."public-keys" | texts]
};

def file($mode; $path): "file \($mode) \($path | @base64) \(.)";

if $cloud == "azure" then azure
elif $cloud == "digitalocean" then digitalocean
elif $cloud == "gcp" then gcp
elif $cloud == "openstack" then openstack
elif $cloud == "oracle" then oracle
elif $cloud == "scaleway" then scaleway
else vultr end
| (del(.keys, .userdata) | to_entries[] | .key as $name | .value | select(. != null and . != "") | tostring | @base64 | file("0644"; $name)),
  (.keys | map(select(test("^[ \t]*$") | not)) | select(length > 0) | map(. + "\n") | add | @base64 | file("0600"; "ssh/authorized_keys")),
  (.userdata // "" | gsub("\\s"; "") | select(. != "") | file("0644"; "userdata"))
