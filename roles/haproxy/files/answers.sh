#!/usr/bin/env bash
# Does HAProxy answer, on this address and port? keepalived asks each second (role haproxy).
exec 3<>"/dev/tcp/$1/$2" || exit 1
printf 'GET /alive HTTP/1.0\r\n\r\n' >&3
read -r -t 1 line <&3
[[ $line == *" 200 "* ]]
