output "head_instance_id" {
  description = "The Ray head: the target of SSM sessions."
  value       = module.platform.head_instance_id
}

output "autoscaler_instance_id" {
  description = "The autoscaler's instance: start it together with a stopped head."
  value       = module.platform.autoscaler_instance_id
}

output "mlflow_instance_id" {
  description = "The tracking server: the target of SSM sessions."
  value       = module.platform.mlflow_instance_id
}

output "ray_token_secret" {
  description = "Secret with Ray's authentication token."
  value       = module.platform.ray_token_secret
}

output "repository_url" {
  description = "Where to push the images."
  value       = module.platform.repository_url
}

output "data_bucket" {
  description = "Bucket for photographs, collections and checkpoints."
  value       = module.platform.data_bucket
}
