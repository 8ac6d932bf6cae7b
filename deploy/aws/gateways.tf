resource "aws_launch_template" "gateway" {
  name_prefix            = "${var.name}-gateway-"
  image_id               = data.aws_ssm_parameter.ami.value
  instance_type          = var.gateway_instance
  update_default_version = true
  vpc_security_group_ids = [aws_security_group.gateway.id]
  iam_instance_profile {
    name = aws_iam_instance_profile.this["gateway"].name
  }
  metadata_options {
    http_tokens = "required"
  }
  user_data = base64encode(templatefile("${path.module}/templates/gateway.sh", {
    image      = var.image.gateway
    nodes      = jsonencode([for address in local.node_addresses : "${address}:4438"])
    proxies    = jsonencode([var.cidr])
    public_url = var.public_url == null ? "" : var.public_url
  }))
  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.name}-gateway" }
  }
}

resource "aws_autoscaling_group" "gateway" {
  name_prefix               = "${var.name}-gateway-"
  min_size                  = var.gateways.min
  desired_capacity          = var.gateways.desired
  max_size                  = var.gateways.max
  vpc_zone_identifier       = aws_subnet.private[*].id
  target_group_arns         = [aws_lb_target_group.gateway.arn]
  health_check_type         = "ELB"
  health_check_grace_period = 180
  launch_template {
    id      = aws_launch_template.gateway.id
    version = aws_launch_template.gateway.latest_version
  }
  # A new version comes one by one; gateways hold nothing.
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 150
    }
  }
  lifecycle {
    ignore_changes = [desired_capacity]
  }
}

resource "aws_autoscaling_policy" "cpu" {
  name                   = "cpu"
  autoscaling_group_name = aws_autoscaling_group.gateway.name
  policy_type            = "TargetTrackingScaling"
  target_tracking_configuration {
    target_value = 60
    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
  }
}

resource "aws_lb" "this" {
  name               = var.name
  load_balancer_type = "application"
  subnets            = aws_subnet.public[*].id
  security_groups    = [aws_security_group.balancer.id]
  # See docs/aws.md for every time here.
  idle_timeout               = 60
  enable_http2               = true
  drop_invalid_header_fields = false
}

resource "aws_lb_target_group" "gateway" {
  name_prefix                   = "gw-"
  vpc_id                        = aws_vpc.this.id
  port                          = 4437
  protocol                      = "HTTP"
  protocol_version              = "HTTP1"
  load_balancing_algorithm_type = "least_outstanding_requests"
  deregistration_delay          = 30
  health_check {
    path                = "/ready"
    port                = 4436
    interval            = 5
    timeout             = 3
    healthy_threshold   = 2
    unhealthy_threshold = 2
    matcher             = "200"
  }
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_lb_listener" "clients" {
  load_balancer_arn = aws_lb.this.arn
  port              = local.client_port
  protocol          = var.certificate_arn == null ? "HTTP" : "HTTPS"
  ssl_policy        = var.certificate_arn == null ? null : "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.gateway.arn
  }
}
