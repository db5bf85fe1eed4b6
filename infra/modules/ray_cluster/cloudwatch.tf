# The head's CloudWatch agent: Ray's metrics of every node (Ray lists their addresses in a file), and Ray's logs.

locals {
  prometheus = {
    global = { scrape_interval = "1m" }
    scrape_configs = [{
      job_name        = "ray"
      file_sd_configs = [{ files = ["/tmp/ray/prom_metrics_service_discovery.json"] }]
      relabel_configs = [{ target_label = "cluster", replacement = var.name }]
    }]
  }

  cloudwatch_agent = {
    logs = {
      metrics_collected = {
        prometheus = {
          prometheus_config_path = "/etc/fss/prometheus.yaml"
          log_group_name         = var.log_groups.metrics.name
          emf_processor = {
            metric_namespace = "fss"
            metric_declaration = [{
              source_labels = ["job"]
              label_matcher = "^ray$"
              dimensions    = [["cluster"]]
              metric_selectors = [
                "^ray_node_(cpu_utilization|mem_used|gpus_utilization|gram_used|disk_utilization_percentage)$",
                "^ray_cluster_(active|pending|failed)_nodes$",
              ]
            }]
          }
        }
      }
      logs_collected = {
        files = {
          collect_list = [for stream, pattern in { jobs = "job-driver-*.log", gcs = "gcs_server*" } : {
            file_path       = "/tmp/ray/session_latest/logs/${pattern}"
            log_group_name  = var.log_groups.logs.name
            log_stream_name = "{instance_id}/${stream}"
          }]
        }
      }
    }
  }
}
