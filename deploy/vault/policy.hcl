# What agent.hcl may read. The fleet's leader writes secret/data/nts/plan, with a policy of its own.
path "secret/data/nts/plan" {
  capabilities = ["read"]
}

path "secret/data/nts/key" {
  capabilities = ["read"]
}
