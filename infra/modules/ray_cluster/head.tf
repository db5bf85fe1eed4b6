# The head: on demand, one, at a fixed private address that the workers' boot scripts know beforehand. The idle timer
# powers it off, which stops an instance (EC2's default) and loses nothing.

locals {
  head_ip = cidrhost(var.subnets[0].cidr, 10)
}

resource "aws_instance" "head" {
  #checkov:skip=CKV_AWS_126:The alarms use Ray's own metrics every minute; detailed ones would only be paid for
  ami                         = var.ami_ids.cpu
  instance_type               = var.head_instance_type
  subnet_id                   = var.subnets[0].id
  private_ip                  = local.head_ip
  associate_public_ip_address = false
  vpc_security_group_ids      = [aws_security_group.nodes.id]
  iam_instance_profile        = aws_iam_instance_profile.this["head"].name
  ebs_optimized               = true
  user_data                   = local.head_cloud_init
  user_data_replace_on_change = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled" # nodes read their own type from their tags
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 100
    encrypted   = true
  }

  # The autoscaler finds the head by these.
  tags = {
    Name               = "${var.name}-head"
    ray-cluster-name   = var.name
    ray-node-kind      = "head"
    ray-user-node-type = "head"
  }

  lifecycle {
    ignore_changes = [ami] # a newer machine image does not replace a running head
  }
}
