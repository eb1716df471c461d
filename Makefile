# SPDX-License-Identifier: GPL-3.0-or-later
# Makefile - `make help' names the targets.
EMACS ?= emacs
CC ?= cc
export EMACS CC

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
ifeq ($(filter clean help,$(MAKECMDGOALS)),)
include build/config.mk # made anew by the rule below
endif

VERSION := $(shell sed -n 's/^;; Version: //p' smtpmail-native.el)
MODULE = smtpmail-native-module$(SUFFIX)
EL = smtpmail-native.el $(wildcard lisp/*.el)
TESTS_EL = $(wildcard test/*-tests.el)
GLUE = module lisp credentials
CORE = $(filter-out $(GLUE),$(basename $(notdir $(wildcard module/*.c))))
C_TESTS = $(basename $(notdir $(wildcard test/c/test-*.c)))
PEER = $(filter-out peer,$(basename $(notdir $(wildcard test/c/peer-*.c))))
SUPPORT = certs $(PEER)

WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
  -Wconversion -Wno-sign-conversion -Werror
CFLAGS ?= -O2 -g
SMN_CFLAGS = -std=c11 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -fPIC \
  -fvisibility=hidden -pthread $(WARN) -DSMN_VERSION='"$(VERSION)"' \
  -Imodule -Itest/c -MMD -MP $(LIB_CFLAGS) $(CFLAGS)
ASAN = -fsanitize=address,undefined -fno-sanitize-recover=undefined \
  -fno-omit-frame-pointer
TSAN = -fsanitize=thread
BATCH = $(EMACS) -Q --batch -L . -L lisp

all: $(MODULE) build/lisp.stamp ## build the module, byte-compile the Lisp

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' Makefile | sed 's/: /	/'

build/config.mk: tools/configure
	@tools/configure $@

# One set of objects for each variant: plain, asan, tsan.
define variant
build/$(1)/%.o: module/%.c build/config.mk
	@mkdir -p $$(@D)
	$$(CC) $$(SMN_CFLAGS) $(2) $$(MODULE_CFLAGS) -c -o $$@ $$<
build/$(1)/%.o: test/c/%.c build/config.mk
	@mkdir -p $$(@D)
	$$(CC) $$(SMN_CFLAGS) $(2) -c -o $$@ $$<
build/$(1)/libsmn.a: $(CORE:%=build/$(1)/%.o)
	rm -f $$@ && ar rcs $$@ $$^
build/$(1)/test-%: build/$(1)/test-%.o $(SUPPORT:%=build/$(1)/%.o) \
    build/$(1)/libsmn.a
	$$(CC) -pthread $(2) -o $$@ $$^ $$(LIBS)
build/$(1)/peer: build/$(1)/peer.o $(SUPPORT:%=build/$(1)/%.o) \
    build/$(1)/libsmn.a
	$$(CC) -pthread $(2) -o $$@ $$^ $$(LIBS)
-include $$(wildcard build/$(1)/*.d)
endef
$(eval $(call variant,plain,))
$(eval $(call variant,asan,$(ASAN)))
$(eval $(call variant,tsan,$(TSAN)))
.PRECIOUS: build/%.o

# Overwriting a mapped module would crash the Emacs that uses it.
$(MODULE): $(GLUE:%=build/plain/%.o) build/plain/libsmn.a
	$(CC) -shared -pthread -o $@.new $^ $(LIBS)
	mv $@.new $@

build/lisp.stamp: $(EL) build/config.mk
	$(BATCH) --eval '(setq byte-compile-error-on-warn t)' \
	  -f batch-byte-compile $(EL)
	@touch $@

check: all check-c check-lisp ## run all tests
	@tools/summary build/log/*.log

check-c: $(C_TESTS:%=check-asan-%) $(C_TESTS:%=check-tsan-%)
check-asan-%: build/asan/%
	@tools/run $@ env ASAN_OPTIONS=detect_leaks=1 $< test/peer
check-tsan-%: build/tsan/%
	@tools/run $@ env TSAN_OPTIONS=halt_on_error=1 $< test/peer

check-lisp: $(TESTS_EL:test/%.el=check-ert-%) \
  $(TESTS_EL:test/%.el=check-assertions-%)
check-ert-%: test/%.el all build/plain/peer
	@tools/run $@ $(BATCH) -L test -l $< -f ert-run-tests-batch-and-exit
check-assertions-%: test/%.el all build/plain/peer
	@tools/run $@ $(EMACS) -Q -module-assertions --batch -L . -L lisp \
	  -L test -l $< -f ert-run-tests-batch-and-exit

lint: all ## check formatting and style
	@LINT=1 tools/configure build/lint.mk
	clang-format --dry-run -Werror module/*.[ch] test/c/*.[ch]
	cppcheck --quiet --enable=warning,portability,performance \
	  --error-exitcode=1 --inline-suppr --std=c11 module test/c
	$(BATCH) -l tools/checkdoc.el $(EL) $(TESTS_EL)
	tools/check-headers

demo: all build/plain/peer ## send a mail to the scripted server, show it
	$(BATCH) -L test -l test/demo.el

bench: all build/plain/peer ## measure
	$(BATCH) -L test -l test/bench.el

clean: ## remove all that was built
	rm -rf build smtpmail-native-module.* *.elc lisp/*.elc test/*.elc

.PHONY: all help check check-c check-lisp lint demo bench clean
.SECONDARY:
