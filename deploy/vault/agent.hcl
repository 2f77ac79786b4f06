# Vault agent (or OpenBao's) on a host that reads a copy of the fleet's plan: docs/fleet.md, "Vault". It runs as the user
# nts, with a folder /run/nts of its own. In fleet.ini: wrapping_key = /run/nts/fleet.key, [folder] path = /run/nts/plan.

vault {
  address = "https://vault.example.net:8200"
}

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "/etc/nts/vault-role-id"
      secret_id_file_path                 = "/etc/nts/vault-secret-id"
      remove_secret_id_file_after_reading = false
    }
  }
}

template_config {
  static_secret_render_interval = "30s"
}

template {
  contents    = "{{ with secret \"secret/data/nts/plan\" }}{{ .Data.data.plan }}{{ end }}"
  destination = "/run/nts/plan/shared/plan"
  perms       = "0640"
}

template {
  contents    = "{{ with secret \"secret/data/nts/plan\" }}{{ .Data.data.members }}{{ end }}"
  destination = "/run/nts/plan/members"
  perms       = "0640"
}

template {
  contents    = "{{ with secret \"secret/data/nts/plan\" }}{{ .Data.data.clock }}{{ end }}"
  destination = "/run/nts/plan/clock"
  perms       = "0640"
}

template {
  contents    = "{{ with secret \"secret/data/nts/key\" }}{{ .Data.data.key }}{{ end }}"
  destination = "/run/nts/fleet.key"
  perms       = "0600"
}
