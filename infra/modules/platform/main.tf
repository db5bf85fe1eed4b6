# All of it: one network, its storage, the tracking server, a Ray cluster, and who is told when something goes wrong.

# Amazon Linux 2023 for containers: Docker, the SSM agent and, in the GPU one, NVIDIA's driver.
data "aws_ssm_parameter" "ami" {
  for_each = {
    cpu = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
    gpu = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
  }

  name = each.value
}

locals {
  ami_ids = { for kind, parameter in data.aws_ssm_parameter.ami : kind => nonsensitive(parameter.value) }
}

module "storage" {
  source = "../storage"

  name                  = var.name
  region                = var.region
  noncurrent_days       = 30
  log_days              = 90
  destroy_with_contents = !var.keep_on_destroy
}

module "network" {
  source = "../network"

  name                = var.name
  region              = var.region
  cidr                = var.cidr
  availability_zones  = var.availability_zones
  endpoint_zones      = var.endpoint_zones
  flow_log_bucket_arn = module.storage.flow_log_bucket_arn
}

module "mlflow" {
  source = "../mlflow"

  name                       = var.name
  region                     = var.region
  vpc_id                     = module.network.vpc_id
  subnets                    = module.network.subnets
  endpoint_security_group_id = module.network.endpoint_security_group_id
  s3_prefix_list_id          = module.network.s3_prefix_list_id
  client_security_group_id   = module.ray_cluster.nodes_security_group_id
  kms_key_arn                = module.storage.kms_key_arn
  artifacts_bucket           = { name = module.storage.bucket_names.artifacts, arn = module.storage.bucket_arns.artifacts }
  repository                 = module.storage.repository
  image                      = var.images["mlflow"]
  users                      = var.tracking_users
  ami_id                     = local.ami_ids.cpu
  instance_type              = var.mlflow_instance_type
  database_instance_class    = var.database_instance_class
  database_in_two_zones      = var.database_in_two_zones
  database_keeps_on_destroy  = var.keep_on_destroy
}

module "ray_cluster" {
  source = "../ray_cluster"

  name                       = var.name
  region                     = var.region
  vpc_id                     = module.network.vpc_id
  subnets                    = module.network.subnets
  endpoint_security_group_id = module.network.endpoint_security_group_id
  s3_prefix_list_id          = module.network.s3_prefix_list_id
  kms_key_arn                = module.storage.kms_key_arn
  data_bucket_arn            = module.storage.bucket_arns.data
  repository                 = module.storage.repository
  images                     = { cpu = var.images["ray-cpu"], gpu = var.images["ray-gpu"] }
  autoscaler_instance_type   = var.autoscaler_instance_type
  ami_ids                    = local.ami_ids
  head_instance_type         = var.head_instance_type
  worker_groups              = var.worker_groups
  worker_idle_minutes        = var.worker_idle_minutes
  head_idle_minutes          = var.head_idle_minutes
  log_groups                 = module.observability.log_groups
  monthly_budget_usd         = var.monthly_budget_usd
  alarm_email                = var.alarm_email
  mlflow = {
    uri                    = module.mlflow.uri
    security_group_id      = module.mlflow.security_group_id
    user                   = var.tracking_users[0]
    user_secret_arn        = module.mlflow.user_secret_arns[var.tracking_users[0]]
    certificate_secret_arn = module.mlflow.certificate_secret_arn
  }
}

module "observability" {
  source = "../observability"

  name               = var.name
  kms_key_arn        = module.storage.kms_key_arn
  retention_days     = 30
  alarm_email        = var.alarm_email
  mlflow_instance_id = module.mlflow.instance_id
  database_id        = module.mlflow.database_id
}
