locals {
  interface_endpoints = toset([
    "ec2",            # the autoscaler starts and ends workers
    "ecr.api",        # images: names and logins
    "ecr.dkr",        # images: manifests (their layers come from S3)
    "logs",           # log groups
    "monitoring",     # metrics
    "secretsmanager", # the Ray token, MLflow's passwords
    "ssm",            # sessions instead of SSH
    "ssmmessages",
  ])

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
        Condition = { StringEquals = { "aws:ResourceAccount" = data.aws_caller_identity.current.account_id } }
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
