output "bucket_names" {
  description = "Bucket names by kind: data, artifacts, logs."
  value       = { for kind, bucket in aws_s3_bucket.this : kind => bucket.id }
}

output "bucket_arns" {
  description = "Bucket ARNs by kind: data, artifacts, logs."
  value       = { for kind, bucket in aws_s3_bucket.this : kind => bucket.arn }
}

# The network's flow logs can only start once the logs bucket lets them in.
output "flow_log_bucket_arn" {
  description = "The logs bucket, once its policy stands."
  value       = aws_s3_bucket.this["logs"].arn
  depends_on  = [aws_s3_bucket_policy.this]
}

output "kms_key_arn" {
  description = "The key that encrypts everything."
  value       = aws_kms_key.this.arn
}

output "repository" {
  description = "The image repository: its address to push to, and its ARN."
  value       = { url = aws_ecr_repository.this.repository_url, arn = aws_ecr_repository.this.arn }
}
