# What a node does at its first boot. Python and Ray are in the project's image; here are its settings, the scripts that
# run the image, and the units that keep them running at every later boot too.

locals {
  settings = {
    REGION           = var.region
    HEAD_IP          = local.head_ip
    TOKEN_SECRET     = aws_secretsmanager_secret.token.name
    MLFLOW_URI       = var.mlflow.uri
    MLFLOW_USER      = var.mlflow.user
    MLFLOW_SECRET    = var.mlflow.user_secret_arn
    MLFLOW_CERT      = var.mlflow.certificate_secret_arn
    CLUSTER          = var.name
    IDLE_MINUTES     = var.head_idle_minutes
    METRIC_NAMESPACE = "fss"
  }

  # A worker (or the autoscaler) that cannot (re)join its head powers itself off, which ends it: without a head nobody else would. A failing
  # start takes from half a minute (refused) to a minute and a half (no answer), so eight come to four to twelve minutes.
  give_up = "StartLimitIntervalSec=900\nStartLimitBurst=8\nStartLimitAction=poweroff"

  node_kinds = {
    head       = { role = "head", image = var.images.cpu, docker_options = "", limits = "StartLimitIntervalSec=0" }
    cpu_worker = { role = "worker", image = var.images.cpu, docker_options = "", limits = local.give_up }
    gpu_worker = { role = "worker", image = var.images.gpu, docker_options = "--gpus all", limits = local.give_up }
    # Docker sends what the autoscaler prints to CloudWatch, with the role of the instance.
    autoscaler = {
      role           = "autoscaler", image = var.images.cpu, limits = local.give_up
      docker_options = "--log-driver awslogs --log-opt awslogs-region=${var.region} --log-opt awslogs-group=${var.log_groups.logs.name} --log-opt awslogs-stream=autoscaler"
    }
  }

  node_files = {
    for kind, node in local.node_kinds : kind => {
      "/etc/fss/node.env" = join("", [
        for key, value in merge(local.settings, {
          ROLE           = node.role
          IMAGE          = "${var.repository.url}@${node.image}"
          DOCKER_OPTIONS = node.docker_options
        }) :
        "${key}=\"${value}\"\n"
      ])
      "/usr/local/bin/fss-ray-node"     = file("${path.module}/files/ray-node.sh")
      "/etc/systemd/system/ray.service" = templatefile("${path.module}/files/ray.service.tftpl", { limits = node.limits })
    }
  }

  head_files = merge(
    {
      "/usr/local/bin/fss-health"        = file("${path.module}/files/health.sh")
      "/usr/local/bin/fss-idle-shutdown" = file("${path.module}/files/idle-shutdown.sh")
      "/etc/fss/prometheus.yaml"         = yamlencode(local.prometheus)
      "/etc/fss/cloudwatch.json"         = jsonencode(local.cloudwatch_agent)
    },
    {
      for name, minutes in { health = 1, idle-shutdown = 5 } : "/etc/systemd/system/fss-${name}.timer" =>
      templatefile("${path.module}/files/timer.tftpl", { name = name, minutes = minutes })
    },
    {
      for name in ["health", "idle-shutdown"] : "/etc/systemd/system/fss-${name}.service" =>
      templatefile("${path.module}/files/oneshot.service.tftpl", { name = name })
    },
  )

  # Amazon's ECS agent comes with the machine image and is not wanted; SSM's is what people come in through.
  packages = ["amazon-ssm-agent", "awscli-2", "openssl"]
  commands = [
    "systemctl mask --now --no-block ecs",
    "systemctl enable --now --no-block amazon-ssm-agent",
    "systemctl daemon-reload",
    "systemctl enable --now --no-block ray.service",
  ]

  worker_cloud_init = {
    for kind in ["cpu_worker", "gpu_worker"] : kind => join("\n", ["#cloud-config", yamlencode({
      packages = local.packages
      runcmd   = local.commands
      write_files = [for path, content in local.node_files[kind] : {
        path        = path
        permissions = startswith(path, "/usr/local/bin/") ? "0755" : "0644"
        content     = content
      }]
    })])
  }

  autoscaler_cloud_init = join("\n", ["#cloud-config", yamlencode({
    packages = local.packages
    runcmd   = local.commands
    write_files = [for path, content in merge(local.node_files.autoscaler, { "/etc/fss/autoscaler.yaml" = yamlencode(local.autoscaler) }) : {
      path        = path
      permissions = startswith(path, "/usr/local/bin/") ? "0755" : "0644"
      content     = content
    }]
  })])

  head_cloud_init = join("\n", ["#cloud-config", yamlencode({
    packages = concat(local.packages, ["amazon-cloudwatch-agent"])
    runcmd = concat(local.commands, [
      "systemctl enable --now fss-health.timer fss-idle-shutdown.timer",
      "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl -a fetch-config -m ec2 -s -c file:/etc/fss/cloudwatch.json",
    ])
    write_files = [for path, content in merge(local.node_files.head, local.head_files) : {
      path        = path
      permissions = startswith(path, "/usr/local/bin/") ? "0755" : "0644"
      content     = content
    }]
  })])
}
