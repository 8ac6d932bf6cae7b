variable "name" {
  description = "Prefix of the names of everything that is made."
  type        = string
  default     = "ursula"
}

variable "cidr" {
  description = "Addresses of the network; a /16 is cut into six parts."
  type        = string
  default     = "10.20.0.0/16"
}

variable "nodes" {
  description = "Storage nodes, one for each zone: the id of each. An id is never used twice: whoever takes the place of a lost node has a new one."
  type        = list(number)
  default     = [1, 2, 3]
  validation {
    condition     = length(var.nodes) == 3 && length(distinct(var.nodes)) == 3
    error_message = "Give three different ids, one for the node of each zone."
  }
}

variable "node_instance" {
  description = "Instance type of storage nodes; must have a local NVMe disk."
  type        = string
  default     = "i4g.large"
}

variable "gateway_instance" {
  description = "Instance type of gateways."
  type        = string
  default     = "c7g.medium"
}

variable "gateways" {
  description = "Gateways: at least, at first, and at most."
  type        = object({ min = number, desired = number, max = number })
  default     = { min = 2, desired = 2, max = 6 }
}

variable "architecture" {
  description = "Of both instance types: arm64 or x86_64."
  type        = string
  default     = "arm64"
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture is arm64 or x86_64."
  }
}

variable "image" {
  description = "Images of the project, by target: the registry that you pushed them to."
  type        = object({ gateway = string, storage_node = string, ursula = string })
}

variable "groups" {
  description = "Groups of streams. Fixed for the life of the cluster."
  type        = number
  default     = 8
}

variable "clients" {
  description = "Networks from which clients may come."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "certificate_arn" {
  description = "Certificate of the load balancer (ACM). Without it there is only plain HTTP."
  type        = string
  default     = null
}

variable "public_url" {
  description = "Base of the URLs in Location, such as https://streams.example.com. Without it the host that a client asked for."
  type        = string
  default     = null
}

variable "monitoring" {
  description = "Networks from which Prometheus reaches /metrics of both tiers."
  type        = list(string)
  default     = []
}
