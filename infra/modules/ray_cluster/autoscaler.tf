# Ray's autoscaler, on an instance of its own that runs no job and that no node can reach: its role may start instances.
# It talks to the control store of the head. Without a head it powers itself off, as workers do; both are started together.

resource "aws_instance" "autoscaler" {
  #checkov:skip=CKV_AWS_126:Ray's own metrics tell whether nodes come; detailed ones would only be paid for
  ami                         = var.ami_ids.cpu
  instance_type               = var.autoscaler_instance_type
  subnet_id                   = var.subnets[0].id
  associate_public_ip_address = false
  vpc_security_group_ids      = [aws_security_group.autoscaler.id]
  iam_instance_profile        = aws_iam_instance_profile.this["autoscaler"].name
  ebs_optimized               = true
  user_data                   = local.autoscaler_cloud_init
  user_data_replace_on_change = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 40
    encrypted   = true
  }

  tags = { Name = "${var.name}-autoscaler" } # without ray-cluster-name: it is no node

  lifecycle {
    ignore_changes = [ami] # a newer machine image does not replace a running instance
  }
}

resource "aws_security_group" "autoscaler" {
  name        = "${var.name}-autoscaler"
  description = "Autoscaler: the head, AWS endpoints; nothing reaches it"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-autoscaler" }
}

resource "aws_vpc_security_group_egress_rule" "autoscaler_head" {
  security_group_id            = aws_security_group.autoscaler.id
  description                  = "Control store of the head"
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}

resource "aws_vpc_security_group_ingress_rule" "autoscaler_head" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "Control store of the head, for the autoscaler"
  referenced_security_group_id = aws_security_group.autoscaler.id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}

resource "aws_vpc_security_group_egress_rule" "autoscaler_endpoints" {
  security_group_id            = aws_security_group.autoscaler.id
  description                  = "HTTPS to the endpoints of AWS services"
  referenced_security_group_id = var.endpoint_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "autoscaler_s3" {
  security_group_id = aws_security_group.autoscaler.id
  description       = "HTTPS to S3"
  prefix_list_id    = var.s3_prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
