#!/bin/bash
gdock score --receptor 2oob_A.pdb --ligand 2oob_B.pdb &>gdock.log
