terraform {
  required_version = ">= 1.10" # the state's lock is a file in the bucket (use_lockfile)

  # The bucket is made by hand (README.md): terraform init -backend-config=bucket=... -backend-config=region=...
  backend "s3" {
    key          = "fss-large/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}
