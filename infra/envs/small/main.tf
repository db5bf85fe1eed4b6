# Small: tens of thousands of photographs, one GPU at a time; everything can be thrown away.

provider "aws" {
  region = var.region

  default_tags {
    tags = { cluster = local.name }
  }
}

locals {
  name = "fss-small"
}

module "platform" {
  source = "../../modules/platform"

  name               = local.name
  region             = var.region
  cidr               = "10.20.0.0/16"
  availability_zones = ["${var.region}a", "${var.region}b"]
  endpoint_zones     = 1
  images             = var.images
  tracking_users     = var.tracking_users

  head_instance_type       = "m6i.large"
  autoscaler_instance_type = "t3.small"
  worker_groups = {
    cpu = { instance_type = "c6i.2xlarge", cpus = 8, gpus = 0, max_spot = 4, max_ondemand = 2, disk_gib = 100 }
    gpu = { instance_type = "g5.xlarge", cpus = 4, gpus = 1, max_spot = 1, max_ondemand = 1, disk_gib = 150 }
  }
  worker_idle_minutes = 5
  head_idle_minutes   = 60

  mlflow_instance_type    = "t3.medium"
  database_instance_class = "db.t4g.micro"
  database_in_two_zones   = false
  keep_on_destroy         = false

  monthly_budget_usd = 300
  alarm_email        = var.alarm_email
}
