data "aws_ssm_parameter" "ami" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${var.architecture}"
}

locals {
  # Fixed, so that a node that takes the place of another one is found where that was.
  node_addresses = [for subnet in aws_subnet.private : cidrhost(subnet.cidr_block, 10)]
  node_arguments = join(" ", [for index, id in var.nodes : "--node ${id}=${local.node_addresses[index]}:4438"])
}

# One in each zone. What a node had acknowledged is on the local disks of two of the three.
resource "aws_instance" "node" {
  count                       = 3
  ami                         = data.aws_ssm_parameter.ami.value
  instance_type               = var.node_instance
  subnet_id                   = aws_subnet.private[count.index].id
  private_ip                  = local.node_addresses[count.index]
  vpc_security_group_ids      = [aws_security_group.node.id]
  iam_instance_profile        = aws_iam_instance_profile.this["node"].name
  user_data_replace_on_change = true
  user_data = templatefile("${path.module}/templates/node.sh", {
    id       = var.nodes[count.index]
    address  = local.node_addresses[count.index]
    image    = var.image.storage_node
    ursula   = var.image.ursula
    groups   = var.groups
    store    = "s3://${aws_s3_bucket.store.id}/cluster"
    region   = data.aws_region.here.region
    is_first = count.index == 0
    nodes    = local.node_arguments
  })
  metadata_options {
    http_tokens = "required"
    # The container is one hop further.
    http_put_response_hop_limit = 2
  }
  tags = { Name = "${var.name}-node-${var.nodes[count.index]}" }
  lifecycle {
    # A new image of the system is no reason to lose a disk.
    ignore_changes = [ami]
  }
}
