mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan
}

variables {
  alarm_email    = "someone@example.org"
  tracking_users = ["team"]
  images         = { for name in ["ray-cpu", "ray-gpu", "mlflow"] : name => "sha256:${sha256(name)}" }
}

run "the_whole_example_plans" {
  command = plan

  assert {
    condition     = output.repository_url == "123456789012.dkr.ecr.eu-central-1.amazonaws.com/mock" && output.ray_token_secret == "fss-small/ray-token"
    error_message = "The commands in README.md need these outputs."
  }
}
