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
  client_security_group_id   = "sg-nodes"
  kms_key_arn                = "arn:aws:kms:eu-central-1:123456789012:key/k"
  artifacts_bucket           = { name = "artifacts", arn = "arn:aws:s3:::artifacts" }
  repository                 = { url = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/test", arn = "arn:aws:ecr:eu-central-1:123456789012:repository/test" }
  image                      = "sha256:${sha256("mlflow")}"
  users                      = ["team-a", "ada"]
  ami_id                     = "ami-cpu"
  instance_type              = "t3.medium"
  database_instance_class    = "db.t4g.micro"
  database_in_two_zones      = false
  database_keeps_on_destroy  = true
}

run "private_encrypted_and_with_passwords" {
  command = plan

  assert {
    condition = (
      aws_db_instance.this.storage_encrypted && !aws_db_instance.this.publicly_accessible &&
      aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    )
    error_message = "The database is private and encrypted, and Terraform never sees its password."
  }

  assert {
    condition     = tonumber(aws_db_instance.this.engine_version) >= 15 && strcontains(file("files/mlflow.sh"), "sslmode=verify-full")
    error_message = "Since 15 RDS refuses connections without TLS, and the server verifies whom it talks to."
  }

  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot
    error_message = "Where history is kept, destroy stops at the database and a last snapshot is left."
  }

  assert {
    condition = (
      aws_instance.server.metadata_options[0].http_tokens == "required" && !aws_instance.server.associate_public_ip_address &&
      aws_instance.server.root_block_device[0].encrypted
    )
    error_message = "The server is private, with an encrypted disk, and refuses version 1 of the metadata service."
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.server.referenced_security_group_id == "sg-nodes" &&
      aws_vpc_security_group_ingress_rule.server.from_port == 5000 && aws_vpc_security_group_ingress_rule.server.to_port == 5000
    )
    error_message = "Only Ray nodes reach the server, at one port."
  }

  assert {
    condition     = strcontains(file("files/mlflow.sh"), "basic_auth") && !can(regex("password\\s*=\\s*[\"']?[a-z0-9]", aws_instance.server.user_data))
    error_message = "The server asks for passwords, and none lies in its user data."
  }

  assert {
    condition     = length(aws_instance.server.user_data) < 16384
    error_message = "EC2 takes 16 KiB of user data."
  }

  assert {
    condition     = output.uri == "https://10.20.0.11:5000" && strcontains(file("files/mlflow.sh"), "--ssl-certfile")
    error_message = "The address is one that Ray's nodes can know before the server exists, and the server speaks TLS."
  }
}

run "everybody_has_a_user" {
  command = plan

  assert {
    condition     = keys(output.user_secret_arns) == ["ada", "team-a"] && keys(aws_secretsmanager_secret.this) == ["certificate", "server", "tls", "user-ada", "user-team-a"]
    error_message = "Every person or team has a secret of their own."
  }
}

run "an_image_by_its_tag_is_refused" {
  command = plan

  variables {
    image = "mlflow-0.1.0"
  }

  expect_failures = [var.image]
}

run "the_administrator_is_no_user" {
  command = plan

  variables {
    users = ["admin"]
  }

  expect_failures = [var.users]
}

run "a_wrong_database_class_is_refused" {
  command = plan

  variables {
    database_instance_class = "t4g.micro"
  }

  expect_failures = [var.database_instance_class]
}
