# Who may reach whom: clients the load balancer, that the gateways, these the nodes, and nodes each other.

resource "aws_security_group" "balancer" {
  name        = "${var.name}-balancer"
  description = "Clients to the load balancer"
  vpc_id      = aws_vpc.this.id
}

resource "aws_security_group" "gateway" {
  name        = "${var.name}-gateway"
  description = "The load balancer to gateways"
  vpc_id      = aws_vpc.this.id
}

resource "aws_security_group" "node" {
  name        = "${var.name}-node"
  description = "Gateways and nodes to storage nodes"
  vpc_id      = aws_vpc.this.id
}

locals {
  # Port, from which group or network, to which group.
  from_groups = {
    requests = { port = 4437, from = aws_security_group.balancer.id, to = aws_security_group.gateway.id }
    health   = { port = 4436, from = aws_security_group.balancer.id, to = aws_security_group.gateway.id }
    gateways = { port = 4438, from = aws_security_group.gateway.id, to = aws_security_group.node.id }
    nodes    = { port = 4438, from = aws_security_group.node.id, to = aws_security_group.node.id }
  }
  client_port = var.certificate_arn == null ? 80 : 443
  from_networks = merge(
    { for cidr in var.clients : "clients ${cidr}" => { port = local.client_port, cidr = cidr, to = aws_security_group.balancer.id } },
    { for cidr in var.monitoring : "gateway metrics ${cidr}" => { port = 4436, cidr = cidr, to = aws_security_group.gateway.id } },
    { for cidr in var.monitoring : "node metrics ${cidr}" => { port = 4439, cidr = cidr, to = aws_security_group.node.id } },
  )
}

resource "aws_vpc_security_group_ingress_rule" "group" {
  for_each                     = local.from_groups
  description                  = each.key
  security_group_id            = each.value.to
  referenced_security_group_id = each.value.from
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "network" {
  for_each          = local.from_networks
  description       = each.key
  security_group_id = each.value.to
  cidr_ipv4         = each.value.cidr
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "all" {
  for_each = {
    balancer = aws_security_group.balancer.id
    gateway  = aws_security_group.gateway.id
    node     = aws_security_group.node.id
  }
  security_group_id = each.value
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

data "aws_iam_policy_document" "ec2" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

# Nodes may do in the bucket what they do, and nothing else.
data "aws_iam_policy_document" "store" {
  statement {
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = ["${aws_s3_bucket.store.arn}/*"]
  }
  statement {
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.store.arn]
  }
}

# Gateways have no right to the bucket.
resource "aws_iam_role" "this" {
  for_each           = toset(["gateway", "node"])
  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.ec2.json
}

resource "aws_iam_role_policy" "store" {
  name   = "store"
  role   = aws_iam_role.this["node"].id
  policy = data.aws_iam_policy_document.store.json
}

# For images in a registry of this account, and a shell without a port.
resource "aws_iam_role_policy_attachment" "this" {
  for_each = {
    for pair in setproduct(["gateway", "node"], ["AmazonEC2ContainerRegistryReadOnly", "AmazonSSMManagedInstanceCore"]) :
    "${pair[0]} ${pair[1]}" => pair
  }
  role       = aws_iam_role.this[each.value[0]].name
  policy_arn = "arn:aws:iam::aws:policy/${each.value[1]}"
}

resource "aws_iam_instance_profile" "this" {
  for_each = aws_iam_role.this
  name     = each.value.name
  role     = each.value.name
}
