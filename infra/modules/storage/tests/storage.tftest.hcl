mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan
}

variables {
  name                  = "test"
  region                = "eu-central-1"
  noncurrent_days       = 30
  log_days              = 90
  destroy_with_contents = false
}

run "closed_encrypted_and_kept" {
  command = plan

  assert {
    condition     = keys(aws_s3_bucket.this) == ["artifacts", "data", "logs"]
    error_message = "There are three buckets."
  }

  assert {
    condition = alltrue([
      for block in aws_s3_bucket_public_access_block.this :
      block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets
    ]) && length(aws_s3_bucket_public_access_block.this) == 3
    error_message = "Every bucket blocks public access in all four ways."
  }

  assert {
    condition = alltrue([
      for policy in aws_s3_bucket_policy.this : contains(jsondecode(policy.policy).Statement, {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:*"
        Resource  = ["arn:aws:s3:::mock-bucket", "arn:aws:s3:::mock-bucket/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      })
    ]) && length(aws_s3_bucket_policy.this) == 3
    error_message = "Every bucket refuses requests without TLS."
  }

  assert {
    condition = flatten([
      for kind, policy in aws_s3_bucket_policy.this : [
        for statement in jsondecode(policy.policy).Statement : "${kind}/${statement.Sid}" if statement.Effect == "Allow"
      ]
    ]) == ["logs/AccessLogs", "logs/FlowLogs", "logs/FlowLogsLook"]
    error_message = "Bucket policies allow log delivery into the logs bucket and nothing else."
  }

  assert {
    condition = {
      for kind, settings in aws_s3_bucket_server_side_encryption_configuration.this :
      kind => one(one(settings.rule).apply_server_side_encryption_by_default).sse_algorithm
    } == { artifacts = "aws:kms", data = "aws:kms", logs = "AES256" }
    error_message = "Data and artifacts are encrypted with our key, logs with S3's."
  }

  assert {
    condition = alltrue([
      for versioning in aws_s3_bucket_versioning.this : one(versioning.versioning_configuration).status == "Enabled"
    ])
    error_message = "Every bucket keeps versions."
  }

  assert {
    condition     = aws_kms_key.this.enable_key_rotation
    error_message = "The key rotates."
  }

  assert {
    condition = {
      for kind, lifecycle in aws_s3_bucket_lifecycle_configuration.this : kind => [for rule in lifecycle.rule : rule.id]
      } == {
      artifacts = ["abort-unfinished-uploads", "expire-old-versions"]
      data      = ["abort-unfinished-uploads", "expire-old-versions"]
      logs      = ["abort-unfinished-uploads", "expire-old-versions", "expire-logs"]
    }
    error_message = "Unfinished uploads, old versions and logs go; data and artifacts stay."
  }

  assert {
    condition     = aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE" && one(aws_ecr_repository.this.image_scanning_configuration).scan_on_push
    error_message = "Image tags stand for one image for ever, and images are scanned."
  }

  assert {
    condition     = alltrue([for bucket in aws_s3_bucket.this : !bucket.force_destroy]) && !aws_ecr_repository.this.force_delete
    error_message = "destroy must stop at a bucket with contents."
  }
}

run "a_bad_name_is_refused" {
  command = plan

  variables {
    name = "Test_1"
  }

  expect_failures = [var.name]
}
