mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan
}

variables {
  name                       = "test"
  region                     = "eu-central-1"
  vpc_id                     = "vpc-1"
  subnets                    = [{ id = "subnet-a", cidr = "10.20.0.0/20" }, { id = "subnet-b", cidr = "10.20.16.0/20" }]
  endpoint_security_group_id = "sg-endpoints"
  s3_prefix_list_id          = "pl-s3"
  kms_key_arn                = "arn:aws:kms:eu-central-1:123456789012:key/k"
  data_bucket_arn            = "arn:aws:s3:::data"
  repository                 = { url = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/test", arn = "arn:aws:ecr:eu-central-1:123456789012:repository/test" }
  images                     = { cpu = "sha256:${sha256("cpu")}", gpu = "sha256:${sha256("gpu")}" }
  autoscaler_instance_type   = "t3.small"
  ami_ids                    = { cpu = "ami-cpu", gpu = "ami-gpu" }
  head_instance_type         = "m6i.large"
  worker_groups = {
    cpu = { instance_type = "c6i.2xlarge", cpus = 8, gpus = 0, max_spot = 4, max_ondemand = 2, disk_gib = 100 }
    gpu = { instance_type = "g5.xlarge", cpus = 4, gpus = 1, max_spot = 1, max_ondemand = 1, disk_gib = 150 }
  }
  worker_idle_minutes = 5
  head_idle_minutes   = 60
  monthly_budget_usd  = 300
  alarm_email         = "someone@example.org"
  mlflow = {
    uri                    = "https://10.20.0.11:5000"
    security_group_id      = "sg-mlflow"
    user                   = "team"
    user_secret_arn        = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:team"
    certificate_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:certificate"
  }
  log_groups = {
    logs    = { name = "/fss/test/ray-logs", arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/fss/test/ray-logs" }
    metrics = { name = "/fss/test/ray-metrics", arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/fss/test/ray-metrics" }
  }
}

run "private_and_elastic" {
  command = plan

  assert {
    condition = (
      aws_instance.head.metadata_options[0].http_tokens == "required" &&
      aws_instance.head.metadata_options[0].http_put_response_hop_limit == 1 &&
      aws_instance.autoscaler.metadata_options[0].http_tokens == "required" &&
      alltrue([for template in aws_launch_template.worker : template.metadata_options[0].http_tokens == "required"])
    )
    error_message = "Every node must refuse version 1 of the metadata service."
  }

  assert {
    condition = (
      aws_instance.head.root_block_device[0].encrypted && aws_instance.autoscaler.root_block_device[0].encrypted &&
      alltrue([for template in aws_launch_template.worker : tobool(template.block_device_mappings[0].ebs[0].encrypted)])
    )
    error_message = "Every volume must be encrypted."
  }

  assert {
    condition     = !aws_instance.head.associate_public_ip_address && aws_instance.head.private_ip == "10.20.0.10"
    error_message = "The head has no public address, and the private one that its workers know."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.between_nodes.cidr_ipv4 == null && aws_vpc_security_group_ingress_rule.between_nodes.cidr_ipv6 == null
    error_message = "Only nodes reach nodes; sessions need no open port."
  }

  assert {
    condition = { for name, type in output.autoscaler.available_node_types : name => "${type.max_workers} at ${try(type.priority, 0)}" } == {
      head           = "0 at 0"
      "cpu-spot"     = "4 at 1"
      "cpu-ondemand" = "2 at 0"
      "gpu-spot"     = "1 at 1"
      "gpu-ondemand" = "1 at 0"
    }
    error_message = "Every group comes from spot first and on demand where spot is refused, each up to its bound."
  }

  assert {
    condition     = output.autoscaler.max_workers == 8 && output.autoscaler.idle_timeout_minutes == 5
    error_message = "The autoscaler's bounds follow from the groups."
  }

  assert {
    condition     = output.autoscaler.provider.disable_node_updaters && !output.autoscaler.provider.cache_stopped_nodes
    error_message = "Workers set themselves up at boot (no SSH) and are ended, not stopped."
  }

  assert {
    condition     = aws_launch_template.worker["gpu"].image_id == "ami-gpu" && aws_launch_template.worker["cpu"].image_id == "ami-cpu"
    error_message = "Nodes with GPUs need the machine image with the driver."
  }

  assert {
    condition     = strcontains(base64decode(aws_launch_template.worker["gpu"].user_data), "--gpus all") && !strcontains(base64decode(aws_launch_template.worker["cpu"].user_data), "--gpus all")
    error_message = "Containers on nodes with GPUs, and only they, get the GPUs."
  }

  assert {
    condition = (
      strcontains(base64decode(aws_launch_template.worker["gpu"].user_data), "@sha256:${sha256("gpu")}") &&
      strcontains(base64decode(aws_launch_template.worker["cpu"].user_data), "@sha256:${sha256("cpu")}")
    )
    error_message = "Nodes with GPUs run the image with CUDA, the others the smaller one, each by its digest."
  }

  assert {
    condition = (
      strcontains(aws_instance.head.user_data, "--no-monitor") && !strcontains(aws_instance.head.user_data, "RunInstances") &&
      strcontains(aws_instance.autoscaler.user_data, "/etc/fss/autoscaler.yaml") && !contains(keys(aws_instance.autoscaler.tags), "ray-cluster-name")
    )
    error_message = "The autoscaler runs on an instance of its own, which is no node of the cluster."
  }

  assert {
    condition     = length(aws_instance.head.user_data) < 16384 && length(aws_instance.autoscaler.user_data) < 16384
    error_message = "EC2 takes 16 KiB of user data."
  }

  assert {
    condition     = alltrue([for template in aws_launch_template.worker : template.instance_initiated_shutdown_behavior == "terminate"])
    error_message = "A worker that lost its head powers itself off, and must then be ended, not stopped."
  }

  assert {
    condition = { for notification in aws_budgets_budget.this.notification : notification.notification_type => notification.threshold } == {
      ACTUAL     = 80
      FORECASTED = 100
    }
    error_message = "A mail goes out at 80 % of the budget and when the forecast exceeds it."
  }
}

run "an_image_by_its_tag_is_refused" {
  command = plan

  variables {
    images = { cpu = "ray-cpu-0.1.0", gpu = "ray-gpu-0.1.0" }
  }

  expect_failures = [var.images]
}

run "a_head_that_stops_while_booting_is_refused" {
  command = plan

  variables {
    head_idle_minutes = 5
  }

  expect_failures = [var.head_idle_minutes]
}

run "a_group_without_instances_is_refused" {
  command = plan

  variables {
    worker_groups = {
      cpu = { instance_type = "c6i.2xlarge", cpus = 8, gpus = 0, max_spot = 0, max_ondemand = 0, disk_gib = 100 }
    }
  }

  expect_failures = [var.worker_groups]
}
