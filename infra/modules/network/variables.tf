variable "name" {
  description = "Prefix of every name: lower-case letters, digits and dashes."
  type        = string
}

variable "region" {
  description = "Region of the endpoints, for example eu-central-1."
  type        = string
}

variable "cidr" {
  description = "Addresses of the network; it is divided into one subnet of 4,096 addresses per zone."
  type        = string

  validation {
    condition     = can(cidrsubnet(var.cidr, 4, 0)) && tonumber(split("/", var.cidr)[1]) == 16
    error_message = "cidr must be an IPv4 network of size /16, for example 10.20.0.0/16."
  }
}

variable "availability_zones" {
  description = "Zones that get a subnet each; the database needs two, more zones find more spot capacity."
  type        = list(string)

  validation {
    condition     = length(var.availability_zones) >= 2 && length(var.availability_zones) <= 6
    error_message = "Name 2 to 6 availability zones."
  }
}

variable "endpoint_zones" {
  description = <<-EOT
    How many of the zones get the endpoints of AWS services. Each costs by the hour in each zone; nodes of the other
    zones use those of the first ones, and fail with them.
  EOT
  type        = number

  validation {
    condition     = var.endpoint_zones >= 1 && var.endpoint_zones <= length(var.availability_zones)
    error_message = "endpoint_zones must be from 1 to the number of availability zones."
  }
}

variable "flow_log_bucket_arn" {
  description = "Bucket that receives the network's flow logs."
  type        = string
}
