#!/bin/bash
# Starts the broker, in apache/kafka as in the image of Containerfile.kafka. Formats the volume at the first start.
#
# With /credentials/users (lines `name password`) the broker is secured. SCRAM users have to exist before a KRaft broker
# starts, so they are added while it is formatted: a later change of the file changes no password.
set -eu
data=/var/lib/kafka/data
settings=/tmp/server.properties
sed "s/HOST_PORT/$HOST_PORT/" /start/server.properties > "$settings"
users=()
if [ -f /credentials/users ]; then
  while read -r name password; do
    users+=(--add-scram "SCRAM-SHA-512=[name=$name,password=$password]")
    if [ "$name" = broker ]; then broker=$password; fi
  done < /credentials/users
  sed "s/PASSWORD/$broker/g" /start/secured.properties >> "$settings"
fi
if [ ! -f "$data/formatted" ]; then
  # A start that was interrupted here begins anew, with the same id.
  if [ ! -f "$data/cluster" ]; then /opt/kafka/bin/kafka-storage.sh random-uuid > "$data/cluster"; fi
  /opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id "$(cat "$data/cluster")" --config "$settings" \
    "${users[@]}"
  touch "$data/formatted"
fi
exec /opt/kafka/bin/kafka-server-start.sh "$settings"
