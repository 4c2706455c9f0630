# SPDX-License-Identifier: ISC
# Turns each line into a string of C.
s/[\\"]/\\&/g
s/.*/"&\\n"/
