variable "name" {
  description = "Prefix of every name; bucket names are <name>-<account>-<kind>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "name must be 2 to 31 lower-case letters, digits and dashes and start with a letter."
  }
}

variable "region" {
  description = "Region of the encrypted log groups."
  type        = string
}

variable "noncurrent_days" {
  description = "Days that an overwritten or deleted object can still be brought back."
  type        = number

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "noncurrent_days must be at least 1."
  }
}

variable "log_days" {
  description = "Days that access logs and flow logs are kept."
  type        = number

  validation {
    condition     = var.log_days >= 30
    error_message = "log_days must be at least 30."
  }
}

variable "destroy_with_contents" {
  description = "Whether `terraform destroy` also deletes buckets and images that are not empty."
  type        = bool
}
