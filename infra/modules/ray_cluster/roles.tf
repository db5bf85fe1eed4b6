# Three roles. Workers and the head, which both run what people submit, may do what jobs do (policies/node.json); the head
# may besides write the token and send metrics and logs (policies/head.json). Only the autoscaler's instance, which runs
# no job, may start and end instances (policies/autoscaler.json): IAM has no condition on user data, so whoever may start
# an instance chooses what it runs. The tests hold these files against what the jobs and the autoscaler call.

data "aws_caller_identity" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id

  node_policy = templatefile("${path.module}/policies/node.json", {
    data_bucket_arn        = var.data_bucket_arn
    kms_key_arn            = var.kms_key_arn
    region                 = var.region
    repository_arn         = var.repository.arn
    token_secret_arn       = aws_secretsmanager_secret.token.arn
    mlflow_secret_arn      = var.mlflow.user_secret_arn
    certificate_secret_arn = var.mlflow.certificate_secret_arn
  })

  log_group_arns = jsonencode([for group in values(var.log_groups) : "${group.arn}:*"])

  head_policy = templatefile("${path.module}/policies/head.json", {
    token_secret_arn = aws_secretsmanager_secret.token.arn
    log_group_arns   = local.log_group_arns
  })

  here = "arn:aws:ec2:${var.region}:${local.account}"

  autoscaler_policy = templatefile("${path.module}/policies/autoscaler.json", {
    account            = local.account
    cluster            = var.name
    region             = var.region
    worker_role_arn    = aws_iam_role.this["worker"].arn
    worker_profile_arn = aws_iam_instance_profile.this["worker"].arn
    token_secret_arn   = aws_secretsmanager_secret.token.arn
    kms_key_arn        = var.kms_key_arn
    repository_arn     = var.repository.arn
    log_group_arns     = local.log_group_arns
    template_arns      = jsonencode([for template in values(aws_launch_template.worker) : "${local.here}:launch-template/${template.id}"])
    instance_types     = jsonencode(distinct([for group in values(var.worker_groups) : group.instance_type]))
    image_and_group_arns = jsonencode(concat(
      [for image in distinct(values(aws_launch_template.worker)[*].image_id) : "arn:aws:ec2:${var.region}::image/${image}"],
      ["${local.here}:security-group/${aws_security_group.nodes.id}"],
    ))
    subnet_and_interface_arns = jsonencode(concat(
      [for subnet in var.subnets : "${local.here}:subnet/${subnet.id}"],
      ["${local.here}:network-interface/*"],
    ))
  })
}

resource "aws_iam_role" "this" {
  for_each = toset(["head", "worker", "autoscaler"])

  name = "${var.name}-${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_instance_profile" "this" {
  for_each = aws_iam_role.this

  name = each.value.name
  role = each.value.name
}

resource "aws_iam_role_policy" "node" {
  for_each = toset(["head", "worker"])

  name   = "node"
  role   = aws_iam_role.this[each.key].id
  policy = local.node_policy
}

resource "aws_iam_role_policy" "head" {
  name   = "head"
  role   = aws_iam_role.this["head"].id
  policy = local.head_policy
}

resource "aws_iam_role_policy" "autoscaler" {
  name   = "autoscaler"
  role   = aws_iam_role.this["autoscaler"].id
  policy = local.autoscaler_policy
}
