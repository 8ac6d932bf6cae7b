#!/bin/bash
# First start of a storage node: its local disk, the container engine, the node, and, on the first one, the cluster.
set -euo pipefail

# The local disk is the one that is no EBS volume. It is empty on a new instance, and only then.
disk=$(lsblk --nodeps --noheadings --output PATH,MODEL | awk '/Instance Storage/ { print $1; exit }')
[ -n "$disk" ] || { echo "this instance type has no local disk: choose one of a storage family" >&2; exit 1; }
blkid "$disk" || mkfs.ext4 -q -L ursula "$disk"
mkdir -p /var/lib/ursula
grep -q ' /var/lib/ursula ' /etc/fstab || echo 'LABEL=ursula /var/lib/ursula ext4 defaults,noatime,nofail 0 2' >> /etc/fstab
mount /var/lib/ursula
mkdir -p /var/lib/ursula/data
chown 4437:4437 /var/lib/ursula/data

dnf install -y -q docker
systemctl enable --now docker

cat > /etc/systemd/system/ursula-storage-node.service <<'UNIT'
[Unit]
Description=Ursula storage node
Requires=docker.service
After=docker.service network-online.target var-lib-ursula.mount
RequiresMountsFor=/var/lib/ursula

[Service]
Restart=always
RestartSec=2
TimeoutStopSec=30
ExecStartPre=-/usr/bin/docker rm --force ursula-storage-node
ExecStart=/usr/bin/docker run --name ursula-storage-node --network host --ulimit nofile=1048576:1048576 \
  --volume /var/lib/ursula/data:/data \
  --env URSULA_NODE_NODE_ID=${id} \
  --env URSULA_NODE_LISTEN=${address}:4438 \
  --env URSULA_NODE_OPERATIONS_LISTEN=${address}:4439 \
  --env URSULA_NODE_DATA_DIR=/data \
  --env URSULA_NODE_GROUPS=${groups} \
  --env URSULA_NODE_STORE=${store} \
  --env AWS_REGION=${region} \
  ${image}
ExecStop=/usr/bin/docker stop --time 20 ursula-storage-node

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --now ursula-storage-node
%{ if is_first ~}

# Once: the nodes that wait become a cluster. Again it changes nothing, so it is tried until all are there.
for _ in $(seq 120); do
  docker run --rm --network host ${ursula} cluster init ${nodes} && break
  sleep 5
done
%{ endif ~}
