# HTTP, as far as metadata services speak it.

# Says whether somebody serves HTTP at an address. Where the firmware says that this is the cloud
# of the address, its service is waited for; else it may be anything, or nothing.
serves() {
    if ! ip route get "$1" > /dev/null 2>&1; then
        complain "no route to $1, where $provider would answer: let dhcp run before"
        return 1
    fi
    tries=1
    [ "$provider" != "$here" ] || tries=30
    until nc.openbsd -z -w 2 "$1" 80 2> /dev/null; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 1
    done
}

# Prints what is at an address; headers follow it. What is not there is nobody's mistake.
get() {
    url=$1
    shift
    for header; do
        set -- "$@" --header "$header"
        shift
    done
    timeout 10 wget -q -O - "$@" "http://$url" 2> /tmp/wget && return 0
    grep -q ' 404 ' /tmp/wget || complain "$url: $(cat /tmp/wget)"
    return 1
}

# Keeps what is at an address as a file of the configuration: FILE ADDRESS [HEADER ...].
keep() {
    file=$1
    shift
    if get "$@" > /tmp/kept && [ -s /tmp/kept ]; then
        cp /tmp/kept "$dir/$file"
    else
        return 1
    fi
}

# Sends what wget cannot, a request of any method or from a port of root's, and prints the body of
# a good answer: HOST METHOD PATH [HEADER ...], with the request's own body, if any, in $body.
# The version is 1.0 so that bodies come in one piece.
request() {
    host=$1
    line="$2 $3 HTTP/1.0"
    shift 3
    {
        for text in "$line" "Host: $host" "Content-Length: ${#body}" "$@" ''; do
            printf '%s\r\n' "$text"
        done
        printf %s "$body"
    } > /tmp/request
    for port in 1023 1022 1021 1020; do
        # In use after another request; the next may be free.
        nc.openbsd -w 5 -p "$port" "$host" 80 < /tmp/request > /tmp/answer 2> /dev/null && break
    done
    head -n 1 /tmp/answer | grep -q '^HTTP/1.. 2' || return 1
    sed "1,/^$cr*\$/d" /tmp/answer
}
body=
cr=$(printf '\r')
