output "head_instance_id" {
  description = "The Ray head: the target of SSM sessions."
  value       = module.ray_cluster.head_instance_id
}

output "autoscaler_instance_id" {
  description = "The autoscaler's instance: start it together with a stopped head."
  value       = module.ray_cluster.autoscaler_instance_id
}

output "mlflow_instance_id" {
  description = "The tracking server: the target of SSM sessions."
  value       = module.mlflow.instance_id
}

output "ray_token_secret" {
  description = "Secret with Ray's authentication token."
  value       = module.ray_cluster.token_secret_name
}

output "repository_url" {
  description = "Where to push the images."
  value       = module.storage.repository.url
}

output "data_bucket" {
  description = "Bucket for photographs, collections and checkpoints."
  value       = module.storage.bucket_names.data
}
