# Workers are started and ended by Ray's autoscaler, from these launch templates. Every group is two node
# types of the same instance: spot, preferred, and on-demand, which the autoscaler turns to while spot is refused or used
# up. This runs in Ray's autoscaler 2, which reads the file as it is: node_config is what RunInstances is called with.

locals {
  markets = {
    spot     = { priority = 1, options = { InstanceMarketOptions = { MarketType = "spot" } } }
    ondemand = { priority = 0, options = {} }
  }

  node_types = merge([
    for group, spec in var.worker_groups : {
      for market, choice in local.markets : "${group}-${market}" => {
        min_workers = 0
        max_workers = market == "spot" ? spec.max_spot : spec.max_ondemand
        priority    = choice.priority
        resources   = spec.gpus > 0 ? { CPU = spec.cpus, GPU = spec.gpus } : { CPU = spec.cpus }
        node_config = merge(choice.options, {
          InstanceType = spec.instance_type
          SubnetIds    = var.subnets[*].id
          TagSpecifications = [for kind in ["instance", "volume"] : {
            ResourceType = kind
            Tags         = [for key in ["cluster", "ray-cluster-name"] : { Key = key, Value = var.name }]
          }]
          LaunchTemplate = { LaunchTemplateId = aws_launch_template.worker[group].id, Version = "$Default" }
        })
      }
    }
  ]...)

  autoscaler = {
    cluster_name         = var.name
    max_workers          = sum([for group in values(var.worker_groups) : group.max_spot + group.max_ondemand])
    idle_timeout_minutes = var.worker_idle_minutes
    head_node_type       = "head"
    provider = {
      type                  = "aws"
      region                = var.region
      use_internal_ips      = true
      cache_stopped_nodes   = false # end idle workers instead of stopping them
      disable_node_updaters = true  # no SSH: workers set themselves up at boot
    }
    available_node_types = merge(local.node_types, {
      head = { min_workers = 0, max_workers = 0, resources = { CPU = 0 }, node_config = { InstanceType = var.head_instance_type } }
    })
  }
}

resource "aws_launch_template" "worker" {
  for_each = var.worker_groups

  name                                 = "${var.name}-${each.key}"
  update_default_version               = true
  image_id                             = each.value.gpus > 0 ? var.ami_ids.gpu : var.ami_ids.cpu
  instance_type                        = each.value.instance_type
  vpc_security_group_ids               = [aws_security_group.nodes.id]
  instance_initiated_shutdown_behavior = "terminate" # a worker that loses its head powers itself off
  ebs_optimized                        = true
  user_data                            = base64encode(local.worker_cloud_init[each.value.gpus > 0 ? "gpu_worker" : "cpu_worker"])

  iam_instance_profile {
    name = aws_iam_instance_profile.this["worker"].name
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled"
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = each.value.disk_gib
      encrypted             = true
      delete_on_termination = true
    }
  }
}
