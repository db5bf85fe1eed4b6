variable "name" {
  description = "Name of the installation and prefix of every name: 2 to 31 lower-case letters, digits and dashes."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "name must be 2 to 31 lower-case letters, digits and dashes and start with a letter."
  }
}

variable "region" {
  description = "Region, the same as the provider's."
  type        = string
}

variable "cidr" {
  description = "Addresses of the network, a /16; different from networks that it will ever be joined with."
  type        = string
}

variable "availability_zones" {
  description = "Two to six zones of the region; more zones find more spot capacity."
  type        = list(string)
}

variable "endpoint_zones" {
  description = "How many of the zones get the endpoints of AWS services, each of which costs by the hour."
  type        = number
}

variable "images" {
  description = "Digests of the images ray-cpu, ray-gpu and mlflow in the repository, as infra/images/push.sh writes them."
  type        = map(string)

  validation {
    condition     = toset(keys(var.images)) == toset(["ray-cpu", "ray-gpu", "mlflow"])
    error_message = "images needs the digests of ray-cpu, ray-gpu and mlflow; infra/images/push.sh writes them."
  }
}

variable "tracking_users" {
  description = "People or teams that get a user of the tracking server each; jobs log in as the first unless they bring another."
  type        = list(string)
}

variable "autoscaler_instance_type" {
  description = "Instance type of the autoscaler."
  type        = string
}

variable "head_instance_type" {
  description = "Instance type of the Ray head."
  type        = string
}

variable "worker_groups" {
  description = "Kinds of workers by name: instance type, its vCPUs and GPUs, most spot and on-demand instances, disk in GiB."
  type = map(object({
    instance_type = string
    cpus          = number
    gpus          = number
    max_spot      = number
    max_ondemand  = number
    disk_gib      = number
  }))
}

variable "worker_idle_minutes" {
  description = "Minutes after which an idle worker is ended."
  type        = number
}

variable "head_idle_minutes" {
  description = "Minutes without a job after which the head stops itself."
  type        = number
}

variable "mlflow_instance_type" {
  description = "Instance type of the tracking server."
  type        = string
}

variable "database_instance_class" {
  description = "Instance class of the tracking server's database."
  type        = string
}

variable "database_in_two_zones" {
  description = "Whether a second copy of the database stands ready in another zone."
  type        = bool
}

variable "keep_on_destroy" {
  description = "Whether `terraform destroy` must stop before it deletes buckets with contents, images and the database."
  type        = bool
}

variable "monthly_budget_usd" {
  description = "Budget; a mail goes out at 80 % of it and when the forecast exceeds it."
  type        = number
}

variable "alarm_email" {
  description = "Who gets alarms and the budget's mails."
  type        = string
}
