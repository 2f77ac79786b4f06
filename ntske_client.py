#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""NTS key exchange client (RFC 8915 section 4): fetches keys and cookies and stores them in client.ini.

examples:
  ntske_client.py -c certs/ca.pem localhost 4446   trust the CA in that file
  ntske_client.py nts.example.net                  a public server: port 4460, the system's CAs
  ntske_client.py localhost 4446 certs/ca.pem      the same as the first
  ntske_client.py --aead 17,15 --json HOST         prefer AEAD 17 to 15; print the result as JSON
  ntske_client.py --explain HOST                   say step by step what works and what does not
  ntske_client.py -v localhost 4446                do not verify the certificate: anyone could answer

exit codes: 0 ok, 2 usage or file, 10 name, 11 connect, 12 TLS, 13 certificate, 14 ALPN, 15 illegal or useless
response, 16 the server sent an Error or Warning record, 130 Ctrl-C, 1 anything else;
with --explain also those of ntsts_client.py
"""


def main() -> int:
    from nts.cli import ke_client  # here, where `script.run` reports missing packages

    return ke_client.main(__doc__)


if __name__ == "__main__":
    import signal

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `heed_ctrl_c`, it ends this without a word
    from nts.cli import script

    script.run(main)
