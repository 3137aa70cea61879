# Clouds: in which one this machine is, and what that says of it.
#
# The services are described in: AWS, "EC2 User Guide", "Instance metadata" (IMDSv2); Azure,
# "Azure Instance Metadata Service" and "Creating generalized images without a provisioning agent";
# Google Cloud, "About VM metadata"; OpenStack, Nova's "Metadata service" and "Config drives";
# DigitalOcean, "Metadata API"; Hetzner Cloud, "Server Metadata"; Oracle Cloud, "Getting Instance
# Metadata"; Vultr, "Metadata API" and "Manage Instance User Data"; Scaleway, cloud-init's
# "Scaleway". Files have the names that LinuxKit's package gives them.

# Where all but Scaleway answer.
imds=169.254.169.254

# Prints the cloud that the firmware names.
cloud() {
    dmi=/sys/class/dmi/id
    said=
    for field in sys_vendor product_name chassis_asset_tag product_uuid; do
        value=
        read -r value 2> /dev/null < "$dmi/$field" || true
        said="$said|$value"
    done
    case $said in
    "|Amazon EC2|"* | *"|ec2"* | *"|EC2"*) echo aws ;;
    "|DigitalOcean|"*) echo digitalocean ;;
    "|Hetzner|"*) echo hetzner ;;
    "|Scaleway|"*) echo scaleway ;;
    "|Vultr|"*) echo vultr ;;
    *"|Google Compute Engine|"*) echo gcp ;;
    *"|OpenStack Nova|"* | *"|OpenStack Compute|"*) echo openstack ;;
    *"|7783-7084-3265-9085-8269-3286-77|"*) echo azure ;;
    *"|OracleCloud.com|"*) echo oracle ;;
    esac
}

# Lays out what a cloud's document, read from stdin, says of the machine.
described() {
    jq -r --arg cloud "$1" -f "$lib/clouds.jq" > /tmp/described && lay_out < /tmp/described
}

# The same for the document at an address: CLOUD ADDRESS [HEADER ...].
describe() {
    whose=$1
    shift
    get "$@" > /tmp/document && described "$whose" < /tmp/document
}

# Keeps the keys, one on each line of stdin.
keep_keys() {
    grep . > /tmp/keys || return 0
    mkdir -p "$dir/ssh"
    cp /tmp/keys "$dir/ssh/authorized_keys"
    chmod 0600 "$dir/ssh/authorized_keys"
}

from_aws() {
    serves $imds || return 1
    token=$(request $imds PUT /latest/api/token 'X-aws-ec2-metadata-token-ttl-seconds: 600') || true
    if [ -z "$token" ]; then
        complain "$imds gives no token, as AWS does where an instance's metadata is enabled"
        return 1
    fi
    token="X-aws-ec2-metadata-token: $token"
    data=$imds/latest/meta-data
    keep hostname $data/hostname "$token" || return 1
    for name in instance-id instance-type local-hostname local-ipv4 public-ipv4; do
        keep "$(echo $name | tr - _)" "$data/$name" "$token" || true
    done
    keep availability_zone $data/placement/availability-zone "$token" || true
    # A list of `0=name`, whose last line need not end.
    { get $data/public-keys/ "$token" || true; echo; } > /tmp/list
    while IFS== read -r number _; do
        [ -z "$number" ] || get "$data/public-keys/$number/openssh-key" "$token" || true
        echo
    done < /tmp/list | keep_keys
    keep userdata $imds/latest/user-data "$token" || true
}

from_azure() {
    serves $imds || return 1
    describe azure "$imds/metadata/instance?api-version=2021-02-01" 'Metadata: true' || return 1
    # Custom data is on a disc alone; user data, which is not, comes first.
    [ -s "$dir/userdata" ] || from_ovf_env || true
    ready || complain 'Azure was not told that this machine is ready, and may restart it'
}

# Tells Azure that the machine runs, which it would start anew else.
ready() {
    wire=168.63.129.16
    version='x-ms-version: 2012-11-30'
    state=$(get "$wire/machine/?comp=goalstate" "$version") || return 1
    state=$(echo "$state" | tr -d '\r\n')
    xml='<?xml version="1.0" encoding="utf-8"?><Health>'
    xml="$xml<GoalStateIncarnation>$(element Incarnation)</GoalStateIncarnation>"
    xml="$xml<Container><ContainerId>$(element ContainerId)</ContainerId><RoleInstanceList><Role>"
    xml="$xml<InstanceId>$(element InstanceId)</InstanceId><Health><State>Ready</State></Health>"
    xml="$xml</Role></RoleInstanceList></Container></Health>"
    timeout 10 wget -q -O - --header "$version" --header 'x-ms-agent-name: moby' \
        --header 'Content-Type: text/xml;charset=utf-8' --post-data "$xml" \
        "http://$wire/machine/?comp=health" > /dev/null
}

# The text of the first element of a name in $state.
element() {
    rest=${state#*<"$1">}
    echo "${rest%%<*}"
}

from_digitalocean() { serves $imds && describe digitalocean $imds/metadata/v1.json; }

from_gcp() {
    google='Metadata-Flavor: Google'
    data=$imds/computeMetadata/v1
    serves $imds && describe gcp "$data/?recursive=true" "$google" || return 1
    # Larger than a number of JSON holds.
    keep instance_id $data/instance/id "$google" || true
}

from_hetzner() {
    data=$imds/hetzner/v1
    serves $imds && keep hostname $data/metadata/hostname || return 1
    for name in instance-id local-ipv4 public-ipv4 availability-zone region; do
        keep "$(echo $name | tr - _)" "$data/metadata/$name" || true
    done
    { get $data/metadata/public-keys || true; } | jq -r '.[]' | keep_keys
    keep userdata $data/userdata || true
}

from_openstack() {
    from_config_drive && return 0
    serves $imds && describe openstack $imds/openstack/latest/meta_data.json || return 1
    for name in instance-type local-ipv4 public-ipv4; do
        keep "$(echo $name | tr - _)" "$imds/latest/meta-data/$name" || true
    done
    keep userdata $imds/openstack/latest/user_data || true
}

from_oracle() { serves $imds && describe oracle $imds/opc/v2/instance/ 'Authorization: Bearer Oracle'; }

from_scaleway() {
    api=169.254.42.42
    serves $api && describe scaleway "$api/conf?format=json" || return 1
    # These two answer root alone, which they know by the port.
    request $api GET /user_data/cloud-init > /tmp/userdata && cp /tmp/userdata "$dir/userdata" || true
    body='{"state_detail":"booted"}'
    request $api PATCH /state 'Content-Type: application/json' > /dev/null || true
    body=
}

from_vultr() {
    serves $imds && describe vultr $imds/v1.json || return 1
    keep userdata $imds/latest/user-data || true
}
