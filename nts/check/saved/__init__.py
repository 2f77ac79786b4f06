# SPDX-License-Identifier: MIT
"""Reports read again, as JSON: what has changed since an older one, and whether a server is as its operator promises.

What has a report is a dictionary as docs/nts_check.schema.json describes it. Only `reading` and `policy.load` open
files. Older reports have fewer members; what is missing is unknown.
"""
