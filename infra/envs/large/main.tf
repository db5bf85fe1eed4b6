# Large: millions of photographs, eight training workers on as many GPUs; data and history outlive mistakes.

provider "aws" {
  region = var.region

  default_tags {
    tags = { cluster = local.name }
  }
}

locals {
  name = "fss-large"
}

module "platform" {
  source = "../../modules/platform"

  name               = local.name
  region             = var.region
  cidr               = "10.30.0.0/16"
  availability_zones = ["${var.region}a", "${var.region}b", "${var.region}c"]
  endpoint_zones     = 3
  images             = var.images
  tracking_users     = var.tracking_users

  head_instance_type       = "m6i.4xlarge"
  autoscaler_instance_type = "t3.small"
  worker_groups = {
    cpu = { instance_type = "c6i.8xlarge", cpus = 32, gpus = 0, max_spot = 32, max_ondemand = 8, disk_gib = 200 }
    gpu = { instance_type = "g5.2xlarge", cpus = 8, gpus = 1, max_spot = 8, max_ondemand = 8, disk_gib = 300 }
  }
  worker_idle_minutes = 10
  head_idle_minutes   = 120

  mlflow_instance_type    = "m6i.large"
  database_instance_class = "db.m6g.large"
  database_in_two_zones   = true
  keep_on_destroy         = true

  monthly_budget_usd = 10000
  alarm_email        = var.alarm_email
}
