output "url" {
  description = "Where clients are served."
  value       = var.public_url != null ? var.public_url : "${var.certificate_arn == null ? "http" : "https"}://${aws_lb.this.dns_name}"
}

output "nodes" {
  description = "Addresses of the storage nodes, for `ursula cluster status --address`."
  value       = [for address in local.node_addresses : "${address}:4438"]
}

output "store" {
  description = "Where the history is, for `ursula backup verify` and `ursula restore`."
  value       = "s3://${aws_s3_bucket.store.id}/cluster"
}
