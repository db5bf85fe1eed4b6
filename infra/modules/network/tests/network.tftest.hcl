mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan
}

variables {
  name                = "test"
  region              = "eu-central-1"
  cidr                = "10.20.0.0/16"
  availability_zones  = ["eu-central-1a", "eu-central-1b"]
  endpoint_zones      = 1
  flow_log_bucket_arn = "arn:aws:s3:::logs"
}

run "closed_but_not_cut_off" {
  command = plan

  assert {
    condition     = alltrue([for subnet in aws_subnet.private : !subnet.map_public_ip_on_launch])
    error_message = "A subnet hands out public addresses."
  }

  assert {
    condition     = aws_subnet.private[0].cidr_block == "10.20.0.0/20" && aws_subnet.private[1].cidr_block == "10.20.16.0/20"
    error_message = "Each zone gets its own /20 of the network."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.endpoints_https.cidr_ipv4 == var.cidr
    error_message = "Endpoints answer the network alone."
  }

  assert {
    condition = toset([for endpoint in aws_vpc_endpoint.interface : endpoint.service_name]) == toset([
      for service in ["ec2", "ecr.api", "ecr.dkr", "logs", "monitoring", "secretsmanager", "ssm", "ssmmessages"] :
      "com.amazonaws.eu-central-1.${service}"
    ])
    error_message = "Without these endpoints a node in a closed network cannot boot, be reached or report."
  }

  assert {
    condition     = alltrue([for endpoint in aws_vpc_endpoint.interface : endpoint.private_dns_enabled && length(endpoint.subnet_ids) == 1])
    error_message = "Endpoints need private names, or clients go to the internet that is not there; in as many zones as asked for."
  }

  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway"
    error_message = "S3 goes through the gateway endpoint, which is free."
  }

  assert {
    condition = [for statement in jsondecode(aws_vpc_endpoint.s3.policy).Statement : "${statement.Sid}: ${statement.Action}"] == [
      "OurBuckets: s3:*", "ReadAmazons: s3:GetObject"
    ] && jsondecode(aws_vpc_endpoint.s3.policy).Statement[0].Condition.StringEquals == { "aws:PrincipalAccount" = "123456789012", "aws:ResourceAccount" = "123456789012" }
    error_message = "Nodes reach buckets of this account, and read Amazon's packages and image layers; nothing else."
  }

  assert {
    condition = alltrue(flatten([for endpoint in aws_vpc_endpoint.interface : [
      for statement in jsondecode(endpoint.policy).Statement :
      statement.Condition.StringEquals["aws:PrincipalAccount"] == "123456789012" && !strcontains(jsonencode(statement.Action), "*")
    ]]))
    error_message = "Endpoints serve this account's principals, and named calls only."
  }

  assert {
    condition = alltrue(flatten([for name in ["ecr.api", "ecr.dkr", "logs", "secretsmanager"] : [
      for resource in flatten([for statement in jsondecode(aws_vpc_endpoint.interface[name].policy).Statement : statement.Resource]) :
      strcontains(resource, ":123456789012:") || resource == "*" && startswith(name, "ecr")
    ]]))
    error_message = "Endpoints of services whose resources have an owner serve this account's alone."
  }

  assert {
    condition     = aws_flow_log.this.traffic_type == "ALL" && aws_flow_log.this.log_destination_type == "s3"
    error_message = "Flow logs must cover all traffic."
  }
}

run "one_zone_is_refused" {
  command = plan

  variables {
    availability_zones = ["eu-central-1a"]
  }

  expect_failures = [var.availability_zones]
}

run "a_small_network_is_refused" {
  command = plan

  variables {
    cidr = "10.20.0.0/24"
  }

  expect_failures = [var.cidr]
}
