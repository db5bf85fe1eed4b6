variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "region" {
  description = "Region of the secrets and of the image repository."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnets" {
  description = "Private subnets, ids and address ranges: the server lives in the first, the database in any."
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

variable "client_security_group_id" {
  description = "The only group whose members may reach the server: the Ray nodes."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the bucket, the secrets and the database."
  type        = string
}

variable "artifacts_bucket" {
  description = "Bucket of the artifacts; only the server touches it, clients go through the server."
  type        = object({ name = string, arn = string })
}

variable "repository" {
  description = "Image repository: address and ARN."
  type        = object({ url = string, arn = string })
}

variable "image" {
  description = "Digest of the MLflow image in the repository: sha256:..."
  type        = string

  validation {
    condition     = can(regex("^sha256:[0-9a-f]{64}$", var.image))
    error_message = "Name the image by its digest, sha256: and 64 hex digits; a tag does not say what is in an image."
  }
}

variable "users" {
  description = "Names of the people or teams that get a user and a secret each."
  type        = list(string)

  validation {
    condition     = length(var.users) >= 1 && alltrue([for user in var.users : can(regex("^[a-z][a-z0-9-]{0,30}$", user)) && user != "admin"])
    error_message = "users needs at least one name of lower-case letters, digits and dashes; admin is the server's own."
  }
}

variable "ami_id" {
  description = "Machine image: ECS-optimised Amazon Linux 2023."
  type        = string
}

variable "instance_type" {
  description = "Instance type of the server."
  type        = string
}

variable "database_instance_class" {
  description = "Instance class of the database."
  type        = string

  validation {
    condition     = startswith(var.database_instance_class, "db.")
    error_message = "database_instance_class starts with \"db.\", for example db.t4g.micro."
  }
}

variable "database_in_two_zones" {
  description = "Whether a second copy of the database stands ready in another zone."
  type        = bool
}

variable "database_keeps_on_destroy" {
  description = "Whether `terraform destroy` must fail at the database and leave a last snapshot."
  type        = bool
}
