# Buckets: data (collections, checkpoints), artifacts (what MLflow keeps) and logs (accesses, network flows).

data "aws_caller_identity" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id
  kinds   = toset(["data", "artifacts", "logs"])
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_144:One region is enough: collections can be made again, and old versions are kept for a month
  #checkov:skip=CKV2_AWS_62:Nobody listens: jobs list what is there
  #checkov:skip=CKV_AWS_18:Data and artifacts are logged; a log of the logs bucket's own log deliveries would never end
  #checkov:skip=CKV_AWS_145:Data and artifacts use our key; S3's log delivery can only write with S3's own
  for_each = local.kinds

  bucket        = "${var.name}-${local.account}-${each.key}"
  force_destroy = var.destroy_with_contents
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.kinds

  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.kinds

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.kinds

  bucket = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

# S3's log delivery cannot write with a key of ours: the logs bucket uses S3's own.
resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.kinds

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    bucket_key_enabled = each.key != "logs"

    apply_server_side_encryption_by_default {
      sse_algorithm     = each.key == "logs" ? "AES256" : "aws:kms"
      kms_master_key_id = each.key == "logs" ? null : aws_kms_key.this.arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  #checkov:skip=CKV_AWS_300:The first rule does it for all three; the check does not see it beside a dynamic one
  for_each = local.kinds

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    id     = "abort-unfinished-uploads"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  rule {
    id     = "expire-old-versions"
    status = "Enabled"
    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }
  }

  dynamic "rule" {
    for_each = each.key == "logs" ? [var.log_days] : []

    content {
      id     = "expire-logs"
      status = "Enabled"
      filter {}

      expiration {
        days = rule.value
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_logging" "this" {
  for_each = setsubtract(local.kinds, ["logs"])

  bucket        = aws_s3_bucket.this[each.key].id
  target_bucket = aws_s3_bucket.this["logs"].id
  target_prefix = "s3-access/"

  depends_on = [aws_s3_bucket_policy.this]
}
