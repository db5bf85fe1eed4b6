locals {
  account = data.aws_caller_identity.current.account_id
  here    = "${var.region}:${local.account}"

  # What each endpoint lets through: these calls, on this account's resources, by this account's principals. Of EC2's
  # resources some are Amazon's own (images), and the calls on "*" know no resource.
  interface_endpoints = {
    # The autoscaler starts and ends workers.
    ec2 = [{ actions = ["ec2:DescribeInstances", "ec2:RunInstances", "ec2:CreateTags", "ec2:TerminateInstances"], resources = ["*"] }]
    # Images: names and logins.
    "ecr.api" = local.images
    # Images: manifests (their layers come from S3).
    "ecr.dkr" = local.images
    logs = [{
      actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
      resources = ["arn:aws:logs:${local.here}:log-group:/fss/${var.name}/*"]
    }]
    monitoring = [{ actions = ["cloudwatch:PutMetricData"], resources = ["*"] }]
    # The Ray token, MLflow's passwords and certificate, the database's password (which AWS names).
    secretsmanager = [{
      actions   = ["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"]
      resources = ["arn:aws:secretsmanager:${local.here}:secret:${var.name}/*", "arn:aws:secretsmanager:${local.here}:secret:rds!*"]
    }]
    # Sessions instead of SSH.
    ssm = [{ actions = ["ssm:UpdateInstanceInformation"], resources = ["*"] }]
    ssmmessages = [{
      actions   = [for call in ["CreateControl", "CreateData", "OpenControl", "OpenData"] : "ssmmessages:${call}Channel"]
      resources = ["*"]
    }]
  }

  images = [
    { actions = ["ecr:GetAuthorizationToken"], resources = ["*"] },
    { actions = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], resources = ["arn:aws:ecr:${local.here}:repository/${var.name}"] },
  ]

  # What nodes reach of S3: this account's buckets, and read-only what Amazon keeps there for instances.
  amazons_buckets = [
    "al2023-repos-${var.region}-de612dc2",     # packages of Amazon Linux
    "prod-${var.region}-starport-layer-bucket" # layers of images in ECR
  ]
}

data "aws_caller_identity" "current" {}

# S3 is free through a gateway. Its policy keeps a stolen credential or a hostile job from carrying data to a bucket of
# another account.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.private.id]

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OurBuckets"
        Effect    = "Allow"
        Principal = "*"
        Action    = "s3:*"
        Resource  = "*"
        Condition = { StringEquals = { "aws:ResourceAccount" = local.account, "aws:PrincipalAccount" = local.account } }
      },
      {
        Sid       = "ReadAmazons"
        Effect    = "Allow"
        Principal = "*"
        Action    = "s3:GetObject"
        Resource  = [for bucket in local.amazons_buckets : "arn:aws:s3:::${bucket}/*"]
      },
    ]
  })

  tags = { Name = "${var.name}-s3" }
}

resource "aws_vpc_endpoint" "interface" {
  for_each = local.interface_endpoints

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [for allowed in each.value : {
      Effect    = "Allow"
      Principal = "*"
      Action    = allowed.actions
      Resource  = allowed.resources
      Condition = { StringEquals = { "aws:PrincipalAccount" = local.account } }
    }]
  })

  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = slice(aws_subnet.private[*].id, 0, var.endpoint_zones)
  security_group_ids  = [aws_security_group.endpoints.id]
  private_dns_enabled = true

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_security_group" "endpoints" {
  name        = "${var.name}-endpoints"
  description = "HTTPS from inside the network to the endpoints of AWS services"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-endpoints" }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints_https" {
  security_group_id = aws_security_group.endpoints.id
  description       = "HTTPS from inside the network"
  cidr_ipv4         = aws_vpc.this.cidr_block
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
