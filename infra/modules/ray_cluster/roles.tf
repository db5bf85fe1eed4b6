# Two roles. Both may do what jobs do (policies/node.json); the head may besides run the autoscaler, write the token
# and send metrics and logs (policies/head.json). The tests hold these files against what the jobs call.

data "aws_caller_identity" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id

  node_policy = templatefile("${path.module}/policies/node.json", {
    data_bucket_arn   = var.data_bucket_arn
    kms_key_arn       = var.kms_key_arn
    region            = var.region
    repository_arn    = var.repository.arn
    token_secret_arn  = aws_secretsmanager_secret.token.arn
    mlflow_secret_arn = var.mlflow.jobs_secret_arn
  })

  head_policy = templatefile("${path.module}/policies/head.json", {
    account          = local.account
    cluster          = var.name
    region           = var.region
    worker_role_arn  = aws_iam_role.this["worker"].arn
    token_secret_arn = aws_secretsmanager_secret.token.arn
    log_group_arns   = jsonencode([for group in values(var.log_groups) : "${group.arn}:*"])
    template_arns = jsonencode([
      for template in values(aws_launch_template.worker) :
      "arn:aws:ec2:${var.region}:${local.account}:launch-template/${template.id}"
    ])
  })
}

resource "aws_iam_role" "this" {
  for_each = toset(["head", "worker"])

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
  for_each = aws_iam_role.this

  name   = "node"
  role   = each.value.id
  policy = local.node_policy
}

resource "aws_iam_role_policy" "head" {
  name   = "head"
  role   = aws_iam_role.this["head"].id
  policy = local.head_policy
}
