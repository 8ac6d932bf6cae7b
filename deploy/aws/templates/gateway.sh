#!/bin/bash
# First start of a gateway: the container engine and the gateway, which holds nothing.
set -euo pipefail
dnf install -y -q docker
systemctl enable --now docker

cat > /etc/ursula.toml <<'TOML'
listen = "0.0.0.0:4437"
operations_listen = "0.0.0.0:4436"
nodes = ${nodes}
trusted_proxies = ${proxies}
# Two failed checks of the load balancer, 5 s apart, and some seconds for it to act.
drain_delay_ms = 15000
%{ if public_url != "" ~}
public_url = "${public_url}"
%{ endif ~}
TOML

cat > /etc/systemd/system/ursula-gateway.service <<'UNIT'
[Unit]
Description=Ursula gateway
Requires=docker.service
After=docker.service network-online.target

[Service]
Restart=always
RestartSec=2
TimeoutStopSec=60
ExecStartPre=-/usr/bin/docker rm --force ursula-gateway
ExecStart=/usr/bin/docker run --name ursula-gateway --network host --ulimit nofile=1048576:1048576 \
  --volume /etc/ursula.toml:/etc/ursula.toml:ro ${image} --config /etc/ursula.toml
ExecStop=/usr/bin/docker stop --time 45 ursula-gateway

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --now ursula-gateway
