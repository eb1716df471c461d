/* SPDX-License-Identifier: GPL-3.0-or-later */
/* targets.h - the targets of libFuzzer, for the macro TARGET: fuzz-NAME.c.  */
TARGET(certificate)
TARGET(job)
TARGET(proxy)
TARGET(receipt)
TARGET(redact)
TARGET(reply)
TARGET(routes)
TARGET(sasl)
TARGET(token)
TARGET(wire)
