variable "name" {
  description = "Name of the cluster and prefix of every name."
  type        = string
}

variable "region" {
  description = "Region that the autoscaler starts workers in."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnets" {
  description = "Private subnets, ids and address ranges: the head lives in the first, workers in any."
  type        = list(object({ id = string, cidr = string }))
}

variable "endpoint_security_group_id" {
  description = "Security group of the endpoints of AWS services."
  type        = string
}

variable "s3_prefix_list_id" {
  description = "Addresses of S3 behind its gateway endpoint."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the buckets and secrets."
  type        = string
}

variable "data_bucket_arn" {
  description = "The only bucket that jobs read and write: photographs, collections, checkpoints."
  type        = string
}

variable "repository" {
  description = "Image repository: address and ARN."
  type        = object({ url = string, arn = string })
}

variable "images" {
  description = "Digests of the Ray images in the repository, for nodes without and with GPUs: sha256:..."
  type        = object({ cpu = string, gpu = string })

  validation {
    condition     = alltrue([for digest in values(var.images) : can(regex("^sha256:[0-9a-f]{64}$", digest))])
    error_message = "Name images by their digests, sha256: and 64 hex digits; a tag does not say what is in an image."
  }
}

variable "ami_ids" {
  description = "Machine images for nodes without and with GPUs: ECS-optimised Amazon Linux 2023 (Docker, SSM agent, driver)."
  type        = object({ cpu = string, gpu = string })
}

variable "head_instance_type" {
  description = "Instance type of the head, which runs the control store, the dashboard and the jobs' drivers, but no tasks."
  type        = string
}

variable "autoscaler_instance_type" {
  description = "Instance type of the autoscaler: two vCPUs and 2 GiB are enough."
  type        = string
}

variable "worker_groups" {
  description = <<-EOT
    Kinds of workers by name. cpus, gpus: of the instance type (vCPUs, cards), so that the autoscaler can choose before
    any is started. max_spot, max_ondemand: most instances of each market at once; together they bound what the group
    can cost. disk_gib: the root volume, which also takes what Ray spills.
  EOT
  type = map(object({
    instance_type = string
    cpus          = number
    gpus          = number
    max_spot      = number
    max_ondemand  = number
    disk_gib      = number
  }))

  validation {
    condition     = alltrue([for name in keys(var.worker_groups) : can(regex("^[a-z][a-z0-9]*$", name))])
    error_message = "Names of worker groups are lower-case letters and digits, for example cpu or gpu."
  }

  validation {
    condition = alltrue([
      for group in values(var.worker_groups) :
      group.cpus >= 1 && group.gpus >= 0 && min(group.max_spot, group.max_ondemand) >= 0 && group.max_spot + group.max_ondemand >= 1
    ])
    error_message = "A worker group needs cpus >= 1, gpus >= 0 and at least one instance of max_spot and max_ondemand."
  }

  validation {
    condition     = alltrue([for group in values(var.worker_groups) : group.disk_gib >= 60])
    error_message = "disk_gib must be at least 60: the image alone takes about 15."
  }
}

variable "worker_idle_minutes" {
  description = "Minutes after which an idle worker is ended."
  type        = number

  validation {
    condition     = var.worker_idle_minutes >= 1
    error_message = "worker_idle_minutes must be at least 1."
  }
}

variable "head_idle_minutes" {
  description = "Minutes without a job after which the head stops itself; it is started again by hand."
  type        = number

  validation {
    condition     = var.head_idle_minutes >= 15
    error_message = "head_idle_minutes must be at least 15, or the head stops while it still sets itself up."
  }
}

variable "mlflow" {
  description = "The tracking server: its address, the user that jobs log in as, and the secrets with that user's password and the server's certificate."
  type = object({
    uri                    = string
    security_group_id      = string
    user                   = string
    user_secret_arn        = string
    certificate_secret_arn = string
  })
}

variable "log_groups" {
  description = "Log groups for Ray's logs and metrics: names and ARNs."
  type = object({
    logs    = object({ name = string, arn = string })
    metrics = object({ name = string, arn = string })
  })
}

variable "monthly_budget_usd" {
  description = "Budget of everything tagged with this cluster's name; a mail goes out at 80 % and when the forecast exceeds it."
  type        = number

  validation {
    condition     = var.monthly_budget_usd > 0
    error_message = "monthly_budget_usd must be positive."
  }
}

variable "alarm_email" {
  description = "Who gets the budget's mails."
  type        = string

  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+$", var.alarm_email))
    error_message = "alarm_email must be a mail address."
  }
}
