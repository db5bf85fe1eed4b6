variable "region" {
  description = "Region to build in; see README.md for what the example costs."
  type        = string
  default     = "eu-central-1"
}

variable "image_version" {
  description = "Version of the images that were pushed: tags ray-cpu-, ray-gpu- and mlflow-<version>."
  type        = string
  default     = "0.1.0"
}

variable "alarm_email" {
  description = "Who gets alarms and the budget's mails."
  type        = string
}
