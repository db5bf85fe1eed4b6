variable "region" {
  description = "Region to build in; see README.md for what the example costs."
  type        = string
  default     = "eu-central-1"
}

variable "images" {
  description = "Digests of the pushed images; infra/images/push.sh writes them to images.auto.tfvars.json."
  type        = map(string)
}

variable "tracking_users" {
  description = "People or teams with a user of the tracking server each; jobs log in as the first unless they bring another."
  type        = list(string)
}

variable "alarm_email" {
  description = "Who gets alarms and the budget's mails."
  type        = string
}
