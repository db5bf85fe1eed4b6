locals {
  tls_only = {
    for kind in local.kinds : kind => {
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.this[kind].arn, "${aws_s3_bucket.this[kind].arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }
  }

  # Who may write logs: S3 for accesses, the log delivery for network flows; both for this account alone.
  log_writers = [
    {
      Sid       = "AccessLogs"
      Effect    = "Allow"
      Principal = { Service = "logging.s3.amazonaws.com" }
      Action    = "s3:PutObject"
      Resource  = "${aws_s3_bucket.this["logs"].arn}/s3-access/*"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    },
    {
      Sid       = "FlowLogs"
      Effect    = "Allow"
      Principal = { Service = "delivery.logs.amazonaws.com" }
      Action    = "s3:PutObject"
      Resource  = "${aws_s3_bucket.this["logs"].arn}/AWSLogs/${local.account}/*"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account, "s3:x-amz-acl" = "bucket-owner-full-control" }
      }
    },
    {
      Sid       = "FlowLogsLook"
      Effect    = "Allow"
      Principal = { Service = "delivery.logs.amazonaws.com" }
      Action    = ["s3:GetBucketAcl", "s3:ListBucket"]
      Resource  = aws_s3_bucket.this["logs"].arn
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    },
  ]
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.kinds

  bucket = aws_s3_bucket.this[each.key].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat([local.tls_only[each.key]], [for writer in local.log_writers : writer if each.key == "logs"])
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}
