output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "subnets" {
  description = "The private subnets, one per zone: their ids and address ranges."
  value       = [for subnet in aws_subnet.private : { id = subnet.id, cidr = subnet.cidr_block }]
}

output "endpoint_security_group_id" {
  description = "Security group of the endpoints: allow HTTPS to it."
  value       = aws_security_group.endpoints.id
}

output "s3_prefix_list_id" {
  description = "Addresses of S3 behind the gateway endpoint: allow HTTPS to it."
  value       = aws_vpc_endpoint.s3.prefix_list_id
}
