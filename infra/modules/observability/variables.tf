variable "name" {
  description = "Name of the cluster, the dimension of its metrics."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the log groups and of the alarm topic."
  type        = string
}

variable "retention_days" {
  description = "Days that Ray's logs are kept in CloudWatch."
  type        = number

  validation {
    condition     = contains([7, 14, 30, 60, 90, 180, 365], var.retention_days)
    error_message = "retention_days must be one of 7, 14, 30, 60, 90, 180, 365."
  }
}

variable "alarm_email" {
  description = "Who gets the alarms; AWS asks this address once to confirm."
  type        = string
}

variable "mlflow_instance_id" {
  description = "The tracking server."
  type        = string
}

variable "database_id" {
  description = "The tracking server's database."
  type        = string
}
